/** docs/file-format.md says of a real file what is in it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MemorySource } from '../../src/mapped-ram/byte-source.js';
import { MappedRamImage } from '../../src/mapped-ram/image.js';
import { goldenBytes } from '../golden/golden-file.js';
import { Folder, seal, writeSealedImage } from '../manifest/sample.js';
import { readPage } from './documents.js';

const page = readPage('docs/file-format.md');

test('the dump is the start of the golden file', async () => {
  const lines = [...page.matchAll(/^([0-9a-f]{8}): ((?:[0-9a-f]{4} ){8}) (.{16})$/gm)];
  const bytes = Buffer.concat(
    lines.map(([, , digits = '']) => Buffer.from(digits.replaceAll(' ', ''), 'hex')),
  );
  const golden = goldenBytes('pc-10.0-mapped-ram');
  assert.equal(bytes.length, 0xa0);
  assert.deepEqual(bytes, Buffer.from(golden.subarray(0, bytes.length)));
  const image = await MappedRamImage.open(new MemorySource(golden));
  const [block] = image.blocks;
  assert.ok(block, 'there is no block');
  const { recordOffset, headerOffset, bitmapOffset, pagesOffset } = block;
  assert.deepEqual([recordOffset, headerOffset, bitmapOffset, pagesOffset], [0x63, 0x72, 0x8e, 0x100000]);
});

test('every key of the manifest is told', async () => {
  using folder = new Folder();
  const file = folder.file('vm');
  await writeSealedImage(file);
  const manifest = await seal(file, { facts: { runState: 'running', qemu: '10.0.2', guestRegions: [] } });
  const told = new Set(
    [...page.matchAll(/^\| ((?:`\w+`(?:, )?)+) \|/gm)].flatMap(([, keys = '']) =>
      keys.replaceAll('`', '').split(', '),
    ),
  );
  assert.deepEqual(
    Object.keys(manifest).filter((key) => !told.has(key)),
    [],
  );
});
