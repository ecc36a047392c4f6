/**
 * A Linux guest that rewrites 100 MiB/s of its memory, saved by stream in every way and loaded into the same version: its
 * counter goes on, its data are whole, and none of the rewritten pages is torn or old.
 */
import assert from 'node:assert/strict';
import path from 'node:path';
import { describe, test } from 'node:test';
import { restore } from '../../src/snapshot/restore/restore.js';
import { type SaveOptions, save } from '../../src/snapshot/save/save.js';
import { startBootedVm } from '../support/booted-vm.js';
import { needs, type QemuName } from '../support/environment.js';
import { startVm, type TestVm, type VmOptions } from '../support/qemu.js';

type Way = Pick<SaveOptions, 'channels' | 'multifd' | 'compression' | 'live' | 'background'>;

const linux: VmOptions = { memoryMiB: 384, fillMiB: 64, churn: { sizeMiB: 50, rateMiB: 100 } };

/** On a slow host the guest outruns the save; then it is stopped, which is also a way to end. */
const live: SaveOptions['live'] = { downtimeLimitMs: 500, maxTimeMs: 20_000, onTimeout: 'stop' };

const ways: [QemuName, Record<string, Way>][] = [
  [
    '10.0',
    {
      'plain, live': { multifd: false, live },
      'multifd, live': { channels: 4, live },
      'zlib, live': { channels: 2, compression: 'zlib', live },
      'zstd, live': { channels: 2, compression: 'zstd', live },
      background: { background: true },
    },
  ],
  // In emulation QEMU 7.2 loses pages of a guest that runs meanwhile, whoever takes its stream.
  [
    '7.2',
    {
      plain: { multifd: false },
      multifd: { channels: 4 },
      zlib: { channels: 2, compression: 'zlib' },
      zstd: { channels: 2, compression: 'zstd' },
    },
  ],
];

async function assertGoesOn(vm: TestVm, count: number, checksum: string | undefined): Promise<void> {
  await vm.console.waitForCounterAbove(count);
  assert.equal(await vm.console.checksum(), checksum);
  await vm.console.waitForCounterAbove(vm.console.counter + 5);
  assert.deepEqual(vm.console.torn, []);
}

for (const [qemu, wayOf] of ways) {
  describe(`a Linux guest of QEMU ${qemu}`, needs({ qemu, guest: 'linux' }), () => {
    test('saved by stream', async (t) => {
      await using source = await startBootedVm({ ...linux, qemu });
      const file = path.join(source.folder, 'image');
      for (const [name, way] of Object.entries(wayOf)) {
        await t.test(name, async (context) => {
          const before = await source.console.waitForCounterAbove();
          const result = await save({ vm: source.qmpPath, file, method: 'stream', force: true, ...way });
          assert.equal(result.runState, 'running');
          context.diagnostic(`guest stopped for ${result.downtimeMs} ms of ${result.totalTimeMs} ms`);
          await assertGoesOn(source, source.console.counter, source.console.bootChecksum);

          await using loaded = await startVm({ ...linux, qemu, guest: 'linux', incoming: true });
          await restore({ vm: loaded.qmpPath, file, channels: 2 });
          const first = await loaded.console.waitForCounterAbove(-1);
          assert.ok(first >= before, `the counter went back from ${before} to ${first}`);
          await assertGoesOn(loaded, first, source.console.bootChecksum);
        });
      }
    });
  });
}
