import assert from 'node:assert/strict';
import { createCipheriv, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { pictureOf } from '../../src/analysis/memory-picture.js';
import { openSavedVm } from '../../src/analysis/open-saved-vm.js';
import { KIND_NUMBER, kindOfPage } from '../../src/analysis/page-kind.js';
import { memoryMap } from '../../src/cli/memory-map.js';
import { temporaryFolder } from '../support/temporary-folder.js';
import { pageOf, writeSyntheticImage } from './synthetic-image.js';
import { openGolden } from './unpack.js';

const root = temporaryFolder('picture');

const random = randomBytes(4096);
const text = Buffer.alloc(4096, 'The quick brown fox jumps over the lazy dog.\n');

/** A page of this very program's machine code. */
function code(): Buffer {
  const program = readFileSync(process.execPath);
  // Somewhere in the middle of a program of tens of megabytes there is code.
  const pages = Array.from({ length: 64 }, (_, index) => {
    const at = Math.floor(program.length / 3 / 4096 + index * 16) * 4096;
    return program.subarray(at, at + 4096);
  });
  return pages.find((page) => kindOfPage(page) === 'code') ?? Buffer.alloc(4096);
}

test('pages are told apart by a sample', () => {
  assert.equal(kindOfPage(Buffer.alloc(4096)), 'zero');
  assert.equal(kindOfPage(text), 'text');
  assert.equal(kindOfPage(random), 'dense');
  const encrypted = createCipheriv('aes-128-ctr', random.subarray(0, 16), random.subarray(16, 32)).update(
    text,
  );
  assert.equal(kindOfPage(encrypted), 'dense');
  const pointers = Buffer.alloc(4096);
  for (let at = 0; at < 4096; at += 8) pointers.writeBigUInt64LE(0x7f0000000000n + BigInt(at * 24), at);
  assert.equal(kindOfPage(pointers), 'data');
  const lone = Buffer.alloc(4096);
  lone[100] = 1;
  assert.equal(kindOfPage(lone), 'data', 'one byte outside the sample is not zero');
});

test('machine code is recognised', { skip: process.arch === 'x64' ? false : 'the rule is for x86' }, () => {
  assert.equal(kindOfPage(code()), 'code');
});

test('a picture has a cell for each page, and says how well kinds compress', async () => {
  const file = path.join(root, 'image');
  await writeSyntheticImage(file, 'pc-q35-10.0', [
    {
      ...{ idstr: 'pc.ram', usedLength: 64 * 4096 },
      pages: { 0: text, 1: random, 2: pageOf(0), 5: pageOf(7) },
      stale: { 9: pageOf(1) },
    },
  ]);
  await using saved = await openSavedVm(file);
  const picture = await pictureOf(saved);
  const [region] = picture.regions;
  assert.ok(region, 'there is no region');
  assert.deepEqual([picture.cellBytes, region.start, region.cells.length], [4096, 0, 64]);
  const { zero, text: textual, dense, data, stale } = KIND_NUMBER;
  assert.deepEqual(
    [...region.cells.subarray(0, 10)],
    [textual, dense, zero, zero, zero, data, zero, zero, zero, stale],
  );
  assert.equal(picture.bytesByKind.stale, 4096);
  assert.equal(picture.bytesByKind.zero, 60 * 4096);
  assert.ok((picture.compressibility.dense ?? 0) > 0.99, `dense: ${picture.compressibility.dense}`);
  assert.ok((picture.compressibility.text ?? 1) < 0.1, `text: ${picture.compressibility.text}`);
  const coarse = await pictureOf(saved, { maxCells: 8 });
  assert.deepEqual([coarse.cellBytes, coarse.regions[0]?.cells.length], [8 * 4096, 8]);
  const lines = memoryMap(picture, { colour: false }).text.split('\n');
  assert.equal(lines[0], 'pc.ram, 256 KiB, guest address 0x0');
  assert.equal(lines[1], `           0 TX···D···S${'·'.repeat(54)}`);
});

test('the map of a plain stream needs no colour', async () => {
  const picture = await pictureOf(await openGolden('pc-10.0-stream'));
  const { text: map } = memoryMap(picture, { colour: false });
  assert.ok(!map.includes('\x1b'), 'a map without colour has escape sequences');
  assert.match(map, /^pc\.ram, 2 MiB, guest address 0x0$/m);
  assert.ok(
    memoryMap(picture, { colour: true }).text.includes('\x1b[48;2;'),
    'a map in colour has no colours',
  );
});
