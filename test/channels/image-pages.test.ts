/** Pages of a file, supplied to the threads of a stream. */
import assert from 'node:assert/strict';
import { closeSync, openSync, truncateSync, writeSync } from 'node:fs';
import { test } from 'node:test';
import type { SlotBlock } from '../../src/channels/channel-block.js';
import { ImagePages } from '../../src/channels/image-pages.js';
import type { PageSource, PageWishes, SourcePages } from '../../src/channels/page-source.js';
import { RecordWriter } from '../../src/channels/record-writer.js';
import { StreamFrame } from '../../src/stream/stream-frame.js';
import { StreamParser } from '../../src/stream/stream-parser.js';
import { concatenate } from '../../src/stream/stream-writer.js';
import { failsWith } from '../support/fails-with.js';
import { block, MIB, PAGE, pageOf, Scratch } from './fixtures.js';

const LENGTH = 9 * MIB;
const PAGES = LENGTH / PAGE;
/** In the first, the second and the last chunk of 4 MiB. */
const PRESENT = [0, 1, 5, 1023, 1024, 1030, PAGES - 1];

function image(scratch: Scratch): { file: string; slots: SlotBlock; pages: ImagePages } {
  const file = scratch.image(MIB + LENGTH);
  const { memory: _, ...slots } = block(-1, LENGTH);
  const fd = openSync(file, 'r+');
  for (const page of PRESENT) {
    writeSync(fd, pageOf(page), 0, PAGE, MIB + page * PAGE);
    new Uint8Array(slots.bitmap)[page >> 3] =
      (new Uint8Array(slots.bitmap)[page >> 3] ?? 0) | (1 << (page & 7));
  }
  closeSync(fd);
  const readable = scratch.own(openSync(file, 'r'));
  const pages = new ImagePages({ kind: 'image', path: file, fd: readable, direct: false, blocks: [slots] });
  return { file, slots, pages };
}

function all(source: PageSource, wishes: PageWishes): SourcePages[] {
  return Array.from({ length: source.chunks }, (_, index) => {
    const { data, ...pages } = source.read(index, wishes) as SourcePages;
    return { ...pages, data: new Uint8Array(data) };
  });
}

test('all pages come once, those with contents and those that are zero', () => {
  using scratch = new Scratch();
  const { pages } = image(scratch);
  const chunks = all(pages, { contents: true });
  assert.deepEqual(
    chunks.flatMap(({ offsets }) => offsets.map((offset) => offset / PAGE)),
    PRESENT,
  );
  for (const { offsets, data } of chunks) {
    for (const [index, offset] of offsets.entries())
      assert.deepEqual(Buffer.from(data.subarray(index * PAGE, (index + 1) * PAGE)), pageOf(offset / PAGE));
  }
  const zeros = chunks.flatMap(({ zeros: some }) => some).reduce((total, { count }) => total + count, 0);
  assert.equal(zeros, PAGES - PRESENT.length);
  assert.equal(pages.read(pages.chunks, { contents: true }), undefined);
  pages.close();
});

test('a thread that sends zero pages alone reads none of the others, and one for a few pages only those', () => {
  using scratch = new Scratch();
  const { file, pages } = image(scratch);
  const selected = new Uint8Array(PAGES / 8);
  for (const page of [4, 5, 6]) selected[page >> 3] = (selected[page >> 3] ?? 0) | (1 << (page & 7));
  const [first] = all(pages, { contents: true, selected: [selected] });
  assert.deepEqual(first?.offsets, [5 * PAGE]);
  assert.deepEqual(first?.zeros, [
    { offset: 4 * PAGE, count: 1 },
    { offset: 6 * PAGE, count: 1 },
  ]);
  // There is nothing to be read any more.
  truncateSync(file, MIB);
  assert.deepEqual(
    all(pages, { contents: false }).flatMap(({ offsets }) => offsets),
    [],
  );
  assert.throws(() => pages.read(0, { contents: true }), failsWith('FORMAT', /the file ends at 1048576/));
  pages.close();
});

test('records of more zero pages than fit into one write, in the frame of a stream', () => {
  const usedLength = 2 ** 33;
  const written: Uint8Array[] = [];
  const write = (bytes: Uint8Array) => written.push(bytes.slice());
  const frame = new StreamFrame({
    configuration: { machine: 'made-9.0', capabilities: [] },
    ...{ pageSize: PAGE, ramSectionId: 3, earlySections: new Uint8Array(0) },
    blocks: [{ idstr: 'ram', usedLength }],
  });
  write(frame.start());
  write(frame.partStart());
  const count = usedLength / PAGE - 1;
  new RecordWriter(write).write({
    block: { idstr: 'ram', pageSize: PAGE },
    offsets: [usedLength - PAGE],
    data: pageOf(7),
    zeros: [{ offset: 0, count }],
  });
  write(frame.partEnd());
  write(frame.ramEnd(false));
  write(frame.devices({ sections: new Uint8Array(0) }));
  const parser = new StreamParser();
  let zeroBytes = 0;
  const pages: [number, Buffer][] = [];
  for (const event of [...written.flatMap((bytes) => parser.push(bytes)), ...parser.end()]) {
    if (event.type === 'zero-pages') zeroBytes += event.length;
    if (event.type === 'pages') pages.push([event.offset, Buffer.from(concatenate(event.data))]);
  }
  assert.equal(zeroBytes, count * PAGE);
  assert.deepEqual(pages, [[usedLength - PAGE, pageOf(7)]]);
});
