/** Damaged and hostile files: what can be read is shown, nothing but a MapramError is thrown, nothing takes for ever. */

import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { compareSavedVms } from '../../src/analysis/compare.js';
import { pictureOf } from '../../src/analysis/memory-picture.js';
import { openSource } from '../../src/analysis/open-saved-vm.js';
import { deviceNodes } from '../../src/analysis/report/device-nodes.js';
import { MapramError } from '../../src/errors.js';
import { MemorySource } from '../../src/mapped-ram/byte-source.js';
import { StreamWriter } from '../../src/stream/stream-writer.js';
import { runCli } from '../cli/run-cli.js';
import { goldenBytes } from '../golden/golden-file.js';
import { temporaryFolder } from '../support/temporary-folder.js';
import { writeSyntheticImage } from './synthetic-image.js';

const root = temporaryFolder('damaged');

for (const name of [
  'pc-10.0-stream-xbzrle',
  'pc-7.2-stream-compress',
  'pc-10.0-mapped-ram',
  'q35-10.0-stream-virtio-mem',
]) {
  test(`${name} with damage anywhere`, async () => {
    const bytes = goldenBytes(name);
    const place = fc.oneof(fc.nat(1200), fc.nat(bytes.byteLength - 9));
    const patch = fc.oneof(
      fc.uint8Array({ minLength: 1, maxLength: 8 }),
      fc.constantFrom(new Uint8Array(8).fill(0xff), new Uint8Array(8)),
    );
    const patches = fc.array(fc.tuple(place, patch), { minLength: 1, maxLength: 4 });
    await fc.assert(
      fc.asyncProperty(patches, fc.option(place), async (list, cut) => {
        const damaged = bytes.slice(0, cut ?? bytes.byteLength);
        for (const [at, values] of list)
          if (at + values.byteLength <= damaged.byteLength) damaged.set(values, at);
        try {
          await using saved = await openSource(new MemorySource(damaged, name));
          deviceNodes(saved.devices);
          await pictureOf(saved);
          await compareSavedVms(saved, saved);
        } catch (error) {
          assert.ok(error instanceof MapramError, String((error as Error).stack));
        }
      }),
      { numRuns: 25 },
    );
  });
}

test('a block that claims 2^50 bytes costs no memory', async () => {
  const stream = new StreamWriter().header().configuration({ machine: 'pc-q35-10.0', capabilities: [] });
  stream.ramStart(1).ramTotal(2 ** 50);
  stream
    .ramBlock({ idstr: 'pc.ram', usedLength: 2 ** 50 })
    .ramEos()
    .sectionFooter(1);
  stream.sectionEnd(1).ramEos().sectionFooter(1).eof();
  await using saved = await openSource(new MemorySource(stream.drainBytes(), 'huge'));
  assert.equal(saved.blocks[0]?.usedLength, 2 ** 50);
  const { regions, cellBytes } = await pictureOf(saved);
  assert.ok(cellBytes >= 2 ** 28, `cell bytes: ${cellBytes}`);
  assert.ok(
    regions.reduce((sum, { cells }) => sum + cells.length, 0) <= 2 ** 22 + 2,
    'the picture has too many cells',
  );
});

test('names from a file do not steer the terminal', async () => {
  const file = path.join(root, 'escape');
  await writeSyntheticImage(file, 'pc-q35-10.0\x1b[2J', [{ idstr: '\x1b]0;owned\x07', usedLength: 4096 }]);
  for (const args of [
    ['inspect', file, '--map'],
    ['diff', file, file],
  ]) {
    const { stdout } = await runCli(args, { env: { NO_COLOR: '1' } });
    assert.ok(!stdout.includes('\x1b') && !stdout.includes('\x07'), JSON.stringify(stdout));
    assert.ok(stdout.includes('\\x1b[2J'), stdout);
  }
});
