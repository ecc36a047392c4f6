import assert from 'node:assert/strict';
import path from 'node:path';
import { describe, test } from 'node:test';
import { type Comparison, compareSavedVms } from '../../src/analysis/compare.js';
import { equalChunksOf } from '../../src/analysis/equal-chunks.js';
import { openSavedVm, openSource } from '../../src/analysis/open-saved-vm.js';
import { BuiltinGuest } from '../../src/guest/builtin/builtin-guest.js';
import { MemorySource } from '../../src/mapped-ram/byte-source.js';
import { save } from '../../src/snapshot/save/save.js';
import { goldenBytes } from '../golden/golden-file.js';
import { temporaryFolder } from '../support/temporary-folder.js';
import { pageOf, type SyntheticBlock, writeSyntheticImage } from './synthetic-image.js';
import { openGolden } from './unpack.js';

const GIB = 2 ** 30;
const root = temporaryFolder('compare');

async function compareGolden(before: string, after: string): Promise<Comparison> {
  return compareSavedVms(await openGolden(before), await openGolden(after));
}

async function compareSynthetic(
  machine: string,
  before: readonly SyntheticBlock[],
  after: readonly SyntheticBlock[],
): Promise<Comparison> {
  const files = [path.join(root, 'before'), path.join(root, 'after')] as const;
  await writeSyntheticImage(files[0], machine, before);
  await writeSyntheticImage(files[1], machine, after);
  await using old = await openSavedVm(files[0]);
  await using now = await openSavedVm(files[1]);
  return await compareSavedVms(old, now);
}

test('a file is equal to itself, and to the same VM in another form', async () => {
  assert.equal((await compareGolden('pc-10.0-mapped-ram', 'pc-10.0-mapped-ram')).equal, true);
  // The same guest at the same point, saved twice: only clocks have gone on.
  const { differentPages, devices } = await compareGolden('pc-10.0-mapped-ram', 'pc-10.0-stream');
  assert.equal(differentPages, 0);
  assert.deepEqual(
    devices.map(({ idstr }) => idstr),
    ['timer', 'mc146818rtc'],
  );
  const [, clock] = devices;
  const seconds = clock?.changes.find(({ path: field }) => field === 'base_rtc');
  assert.equal(typeof seconds?.before, 'bigint');
  assert.notEqual(seconds?.before, seconds?.after);
  assert.equal(clock?.changes[0]?.path, 'cmos_data[0x0]');
});

test('pages of XBZRLE and compressed streams are compared as the guest sees them', async () => {
  for (const name of ['pc-10.0-stream-xbzrle', 'pc-7.2-stream-compress']) {
    const whole = await openGolden(name);
    const again = await openSource(new MemorySource(goldenBytes(name)));
    assert.equal((await compareSavedVms(whole, again)).equal, true, name);
  }
});

describe('memory', () => {
  const block = (
    pages: Record<number, Uint8Array>,
    stale: Record<number, Uint8Array> = {},
  ): SyntheticBlock => ({
    ...{ idstr: 'pc.ram', usedLength: 3 * GIB },
    ...{ pages, stale },
  });

  test('is masked by the bitmap: stale slots and written zeros are no difference', async () => {
    const { equal } = await compareSynthetic(
      'pc-q35-10.0',
      [block({ 1: pageOf(1), 2: pageOf(0) }, { 3: pageOf(9) })],
      [block({ 1: pageOf(1) }, { 5: pageOf(8) })],
    );
    assert.equal(equal, true);
  });

  test('is told as ranges of guest addresses, also across the PCI hole', async () => {
    const low = (2 * GIB) / 4096;
    const { blocks, differentPages, equal } = await compareSynthetic(
      'pc-q35-10.0',
      [block({ 1: pageOf(1), 7: pageOf(7) })],
      [block({ 1: pageOf(2), 2: pageOf(2), 7: pageOf(7), [low - 1]: pageOf(3), [low]: pageOf(4) })],
    );
    assert.equal(equal, false);
    assert.equal(differentPages, 4);
    assert.deepEqual(blocks[0]?.ranges, [
      { offset: 4096, length: 8192, guestAddress: 4096 },
      { offset: 2 * GIB - 4096, length: 4096, guestAddress: 2 * GIB - 4096 },
      { offset: 2 * GIB, length: 4096, guestAddress: 4 * GIB },
    ]);
  });

  test('blocks that are in one file only, or of another size, are named', async () => {
    const { blocks } = await compareSynthetic(
      'pc-q35-10.0',
      [
        { idstr: 'pc.ram', usedLength: 8192 },
        { idstr: 'old', usedLength: 4096 },
      ],
      [
        { idstr: 'pc.ram', usedLength: 16384 },
        { idstr: 'new', usedLength: 4096 },
      ],
    );
    assert.deepEqual(
      blocks.map(({ idstr, status }) => [idstr, status]),
      [
        ['pc.ram', 'different'],
        ['old', 'only-before'],
        ['new', 'only-after'],
      ],
    );
  });
});

test('checksums in both files spare reading what they call equal, which is reported, and nothing else (R07)', async () => {
  const files = [path.join(root, 'one'), path.join(root, 'other')] as const;
  await using vm = await BuiltinGuest.start({ size: 8 * 2 ** 20, begin: 'paused' });
  for (const file of files) await save({ vm, file });
  await using before = await openSavedVm(files[0]);
  await using after = await openSavedVm(files[1]);
  const equalChunks = await equalChunksOf(before, after);
  assert.ok(equalChunks, 'there is no equal chunks');
  const quick = await compareSavedVms(before, after, { equalChunks });
  const thorough = await compareSavedVms(before, after);
  assert.equal(quick.readBytes, 0);
  assert.ok(thorough.readBytes > 0, `read bytes: ${thorough.readBytes}`);
  assert.deepEqual([quick.unreadBytes > 0, thorough.unreadBytes], [true, 0]);
  assert.deepEqual([quick.blocks, quick.equal], [thorough.blocks, thorough.equal]);
});
