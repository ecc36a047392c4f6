import assert from 'node:assert/strict';
import { closeSync, openSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type ImageBlock, MappedRamImage } from '../../../src/mapped-ram/image.js';
import {
  type BlockMemory,
  pageRecords,
  writeStateStream,
} from '../../../src/snapshot/resume/state-stream.js';
import { splitTail } from '../../../src/stream/device-sections.js';
import type { StreamEvent } from '../../../src/stream/stream-event.js';
import { StreamParser } from '../../../src/stream/stream-parser.js';
import { concatenate } from '../../../src/stream/stream-writer.js';
import { temporaryFolder } from '../../support/temporary-folder.js';
import { writeBuiltinImage } from '../builtin-image.js';

const PAGE = 4096;
const STALE = [200, 201, 202, 250];

describe('writeStateStream', () => {
  let folder: string;
  let image: MappedRamImage;

  before(async () => {
    folder = temporaryFolder('state');
    await writeBuiltinImage(path.join(folder, 'image'), { ticks: 3, stale: STALE });
    image = await MappedRamImage.open(path.join(folder, 'image'));
  });
  after(async () => {
    await image.close();
    rmSync(folder, { recursive: true, force: true });
  });

  async function stateStream(memoryOf: (block: ImageBlock) => BlockMemory) {
    const target = openSync(path.join(folder, 'stream'), 'w+');
    const file = openSync(path.join(folder, 'image'), 'r');
    try {
      const result = await writeStateStream(image, file, target, memoryOf);
      const bytes = readFileSync(path.join(folder, 'stream'));
      assert.equal(bytes.byteLength, result.byteLength);
      const parser = new StreamParser();
      return { result, parser, events: [...parser.push(bytes), ...parser.end()] };
    } finally {
      closeSync(file);
      closeSync(target);
    }
  }

  function pages(events: StreamEvent[], type: 'pages' | 'zero-pages', idstr: string): number[] {
    return events.flatMap((event) => {
      if (event.type !== type || event.block.idstr !== idstr) return [];
      const count = event.type === 'pages' ? event.data.length : event.length / PAGE;
      return Array.from({ length: count }, (_, index) => event.offset / PAGE + index);
    });
  }

  test('zeroes the stale slots of mapped blocks and sends nothing else of them', async () => {
    const { result, parser, events } = await stateStream(() => 'mapped');
    const [block] = image.blocks as [ImageBlock];
    const zeroed = pages(events, 'zero-pages', block.idstr);
    for (const page of STALE) assert.ok(zeroed.includes(page), `page ${page} is not zeroed`);
    for (const page of zeroed) assert.ok(!block.bitmap.test(page), `page ${page} is not zero`);
    assert.deepEqual(pages(events, 'pages', block.idstr), []);
    assert.equal(result.zeroedPages, zeroed.length);
    assert.equal(result.loadedPages, 0);
    assert.deepEqual(parser.configuration?.capabilities, []);
    assert.deepEqual(
      parser.blocks.map(({ idstr, usedLength }) => [idstr, usedLength]),
      image.blocks.map(({ idstr, usedLength }) => [idstr, usedLength]),
    );
  });

  test('sends nothing of blocks that others fill', async () => {
    const { result, parser, events } = await stateStream(() => 'filled');
    assert.deepEqual(
      events.filter(({ type }) => type === 'pages' || type === 'zero-pages'),
      [],
    );
    assert.deepEqual([result.zeroedPages, result.loadedPages], [0, 0]);
    assert.equal(parser.blocks.length, image.blocks.length);
  });

  test('sends every page of the other blocks', async () => {
    const { result, events } = await stateStream(() => 'fresh');
    for (const block of image.blocks) {
      const sent = pages(events, 'pages', block.idstr);
      assert.deepEqual(
        sent,
        sent.filter((page) => block.bitmap.test(page)),
      );
      assert.equal(sent.length, block.bitmap.count());
      assert.equal(pages(events, 'zero-pages', block.idstr).length, block.pageCount - sent.length);
    }
    for (const event of events) {
      if (event.type !== 'pages') continue;
      const block = image.block(event.block.idstr) as ImageBlock;
      const expected = await image.readPages(block, event.offset / PAGE, event.data.length);
      assert.ok(
        concatenate(event.data).every((byte, index) => byte === expected[index]),
        'the pages have other contents',
      );
    }
    assert.equal(result.zeroedPages, 0);
  });

  test('makes records of single pages, to be put where the others end', async () => {
    const [block] = image.blocks as [ImageBlock];
    const [first, second] = [...block.bitmap.runs(0, block.pageCount)].map((run) => run.first) as [
      number,
      number,
    ];
    const runs = [first, STALE[0] as number, second].map((page) => ({
      block,
      run: { first: page, count: 1 },
    }));
    const records = await pageRecords(image, runs);
    const { result, parser } = await stateStream(() => 'filled');
    assert.equal(parser.blocks.length, image.blocks.length);
    const stream = readFileSync(path.join(folder, 'stream'));
    const again = new StreamParser();
    const events = [stream.subarray(0, result.pagesEnd), records, stream.subarray(result.pagesEnd)].flatMap(
      (bytes) => again.push(bytes),
    );
    assert.deepEqual(pages(events, 'pages', block.idstr), [first, second]);
    assert.deepEqual(pages(events, 'zero-pages', block.idstr), [STALE[0]]);
    for (const event of events) {
      if (event.type !== 'pages') continue;
      const expected = await image.readPages(block, event.offset / PAGE, event.data.length);
      assert.deepEqual(Buffer.from(concatenate(event.data)), Buffer.from(expected));
    }
  });

  test('carries the device sections unchanged', async () => {
    const { events } = await stateStream(() => 'mapped');
    const tail = await splitTail(
      concatenate(events.flatMap((event) => (event.type === 'tail' ? [event.data] : []))),
    );
    assert.ok(tail.complete, tail.problems.join('; '));
    assert.deepEqual(Buffer.from(tail.sectionBytes), Buffer.from(image.tail.sectionBytes));
  });
});
