/** Saves a VM by stream again and again, each time in another way, and lets every file run. */
import assert from 'node:assert/strict';
import path from 'node:path';
import { checkImage } from '../../src/mapped-ram/check-image.js';
import { MappedRamImage } from '../../src/mapped-ram/image.js';
import { restore } from '../../src/snapshot/restore/restore.js';
import { type SaveOptions, save } from '../../src/snapshot/save/save.js';
import { startVm, type TestVm } from '../support/qemu.js';
import { Random } from './random.js';

type Way = Pick<SaveOptions, 'channels' | 'multifd' | 'compression' | 'live' | 'background'>;

/** How often each way was taken. */
export type WayCounts = Record<string, number>;

/** Every count changes all pages of the guest's structure that it looks at; after so many it has looked at all of them. */
const COUNTS_TO_SEE_ALL = 20;

/**
 * The guest of `vm` (`tiny`) keeps a counter in every page of its stamps, written in order. It runs on while it is saved `count`
 * times; each file is loaded into a VM of its own, whose guest must find no page torn, lost or older than the others.
 *
 * @throws AssertionError naming the way and the seed
 */
export async function saveAgainAndAgain(vm: TestVm, count: number, seed: number): Promise<WayCounts> {
  const random = new Random(seed);
  const counts: WayCounts = {};
  for (let round = 0; round < count; round++) {
    const way = pickWay(random, vm.options.qemu === '7.2');
    const name = JSON.stringify(way);
    try {
      await saveAndRun(vm, way, random);
    } catch (error) {
      throw new Error(`round ${round}, ${name}, seed ${seed}`, { cause: error });
    }
    const kind = kindOf(way);
    counts[kind] = (counts[kind] ?? 0) + 1;
  }
  return counts;
}

/** In emulation QEMU 7.2 loses pages of guests that run meanwhile, whoever takes its stream; its guests are stopped. */
function pickWay(random: Random, stoppedOnly: boolean): Way {
  const kind = random.below(10);
  if (kind === 0 && !stoppedOnly) return { background: true };
  const live = !stoppedOnly && random.below(2) === 1;
  if (kind <= 2) return { multifd: false, live };
  const compression = random.pick(['none', 'none', 'none', 'zlib', 'zstd'] as const);
  return { channels: 1 + random.below(16), compression, live };
}

function kindOf({ multifd = true, compression = 'none', live, background }: Way): string {
  if (background) return 'background';
  return [multifd ? 'multifd' : 'plain', compression === 'none' ? '' : compression, live ? 'live' : 'stopped']
    .filter(Boolean)
    .join(', ');
}

async function saveAndRun(vm: TestVm, way: Way, random: Random): Promise<void> {
  const file = path.join(vm.folder, 'image');
  const before = await vm.console.waitForCounterAbove();
  await save({ vm: vm.qmpPath, file, method: 'stream', force: true, ...way });
  const after = await vm.console.waitForCounterAbove();
  assert.deepEqual(vm.console.torn, [], 'the guest that was saved');
  {
    await using image = await MappedRamImage.open(file);
    assert.deepEqual(checkImage(image), []);
  }
  const { qemu, machine } = vm.options;
  await using loaded = await startVm({ qemu, machine, incoming: true });
  const method = qemu === '7.2' ? 'stream' : random.pick(['native', 'stream'] as const);
  await restore({ vm: loaded.qmpPath, file, method, channels: 1 + random.below(4) });
  const first = await loaded.console.waitForCounterAbove(-1);
  assert.ok(first >= before && first <= after, `counter ${first}, saved between ${before} and ${after}`);
  await loaded.console.waitForCounterAbove(first + COUNTS_TO_SEE_ALL);
  assert.equal(await loaded.console.checksum(), vm.console.bootChecksum);
  assert.deepEqual(loaded.console.torn, [], 'the guest that was loaded');
}
