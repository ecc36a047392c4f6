import assert from 'node:assert/strict';
import { statSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { MappedRamImage } from '../../../src/mapped-ram/image.js';
import { deviceSteps, inspect } from '../../../src/snapshot/inspect/inspect.js';
import { deviceValues } from '../../../src/stream/device-values.js';
import { inPauses } from '../../stream/at-once.js';
import { failsWith } from '../../support/fails-with.js';
import { temporaryFolder } from '../../support/temporary-folder.js';
import { writeBuiltinImage } from '../builtin-image.js';

const root = temporaryFolder('inspect');
const file = path.join(root, 'image');

test('an image is described down to its blocks', async () => {
  const written = await writeBuiltinImage(file, { guest: { size: 4 * 2 ** 20, blocks: 2 }, ticks: 100 });
  const found = await inspect({ file });
  assert.deepEqual(
    [found.container, found.offset, found.machine, found.capabilities, found.pageSize, found.complete],
    ['qemu', 0, 'mapram-builtin-1.0', ['mapped-ram'], 4096, true],
  );
  assert.deepEqual(
    found.blocks.map(({ idstr, usedLength, normalPages, stalePages }) => [
      idstr,
      usedLength,
      normalPages,
      stalePages,
    ]),
    [
      ['builtin.ram0', 2 ** 21, written[0], 0],
      ['builtin.ram1', 2 ** 21, written[1], 0],
      ['builtin.rom', 65536, 16, 0],
    ],
  );
  assert.ok(
    found.blocks.every(
      ({ pagesOffset, bitmapOffset }) => (pagesOffset ?? 1) % 2 ** 20 === 0 && (bitmapOffset ?? 0) > 0,
    ),
    'a block has no bitmap, or its pages are not aligned',
  );
  assert.equal(
    found.normalPages,
    written.reduce((sum, count) => sum + count, 0),
  );
  assert.equal(found.ramBytes, 4 * 2 ** 20 + 65536);
  assert.equal(found.fileBytes, statSync(file).size);
  assert.ok(found.allocatedBytes < found.fileBytes, `allocated bytes: ${found.allocatedBytes}`);
  assert.equal(found.manifest, null);
  assert.deepEqual(found.problems, []);
});

test('devices are decoded in slices, and the event loop turns in between (F9)', async () => {
  await writeBuiltinImage(file, { ticks: 300 });
  await using image = await MappedRamImage.open(file);
  const [serial] = image.devices.filter(({ idstr }) => idstr === 'serial');
  assert.ok(serial, 'there is no serial');
  const many = Array.from({ length: 2000 }, () => serial);
  const { result, pauses } = inPauses(deviceSteps(many, true));
  assert.equal(result.length, 2000);
  assert.deepEqual(
    result[1999],
    (await inspect({ file })).devices.find(({ idstr }) => idstr === 'serial'),
  );
  assert.ok(pauses.length > 3, `${pauses.length} pauses`);
  const most = 8192 + serial.data.byteLength;
  assert.ok(Math.max(...pauses) <= most, `${Math.max(...pauses)} bytes at once`);
});

test('device state comes with its values', async () => {
  await writeBuiltinImage(file, { ticks: 300 });
  const { devices } = await inspect({ file });
  assert.deepEqual(
    devices.map(({ idstr, instanceId, version }) => [idstr, instanceId, version]),
    [
      ['timer', 0, 2],
      ['cpu', 0, 1],
      ['serial', 0, 1],
      ['memory', 0, 1],
      ['globalstate', 0, 1],
    ],
  );
  const [timer, , serial] = devices.map(({ state }) => (state === undefined ? {} : deviceValues(state)));
  assert.deepEqual(timer, { clock_ns: 3_000_000_000n, unused: new Uint8Array(8), tick: 3_010_000_000n });
  assert.equal(serial?.printed, BigInt('tick 100\n'.length * 3));
  const fifo = serial?.['builtin-serial/fifo'] as { data: Uint8Array; used: number };
  assert.equal(Buffer.from(fifo.data).toString(), 'ck 200\ntick 300\n');
});

test('stale pages are counted by what their slots hold, not by the bitmap', async () => {
  const empty = { size: 2 ** 20, pattern: 'zero' as const };
  await writeBuiltinImage(file, { guest: empty, stale: [5, 6, 255] });
  const seen: number[] = [];
  const { blocks } = await inspect({ file, onProgress: ({ bytes }) => seen.push(bytes) });
  assert.deepEqual(
    blocks.map(({ normalPages, stalePages }) => [normalPages, stalePages]),
    [
      [1, 3],
      [16, 0],
    ],
  );
  // Holes are not read: at most the file system's blocks around three stale pages.
  assert.ok((seen.at(-1) ?? 0) >= 3 * 4096 && (seen.at(-1) ?? 0) <= 2 ** 19, String(seen.at(-1)));
});

test('a stream behind other bytes is found at its offset only', async () => {
  await writeBuiltinImage(file, { offset: 0x1234 });
  assert.equal((await inspect({ file, offset: 0x1234 })).offset, 0x1234);
  await assert.rejects(inspect({ file }), failsWith('FORMAT'));
});

test('a file that was cut short says so', async () => {
  await writeBuiltinImage(file);
  const whole = await inspect({ file });
  truncateSync(file, (whole.blocks[1]?.pagesOffset ?? 0) + 65536 + 40);
  const cut = await inspect({ file });
  assert.equal(cut.complete, false);
  assert.match(cut.problems.join(), /did not finish/);
  truncateSync(file, 100);
  await assert.rejects(inspect({ file }), failsWith('FORMAT', /cut short|ends/));
});

test('what is no image is named', async () => {
  const foreign = path.join(root, 'foreign');
  writeFileSync(foreign, Buffer.from([0x1f, 0x8b, 8, 0]));
  await assert.rejects(inspect({ file: foreign }), failsWith('FORMAT', /it is a gzip file/));
  await assert.rejects(inspect({ file: root }), failsWith('FORMAT', /it is a directory/));
  await assert.rejects(
    inspect({ file: path.join(root, 'absent') }),
    failsWith('IO', /absent: no such file or directory$/),
  );
});

test('inspecting can be cancelled', async () => {
  await writeBuiltinImage(file, { guest: { pattern: 'zero' }, stale: [9] });
  const controller = new AbortController();
  const reason = new Error('enough');
  controller.abort(reason);
  await assert.rejects(inspect({ file, signal: controller.signal }), { code: 'CANCELLED', cause: reason });
});
