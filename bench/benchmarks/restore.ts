import path from 'node:path';
import { repositoryRoot } from '../../test/support/environment.js';
import { loadMappedRam } from '../../test/support/native-migration.js';
import { startVm, type TestVm } from '../../test/support/qemu.js';
import type { Benchmark, Contender, Sample } from '../benchmark.js';
import { cachedShare, startFresh } from '../fresh-file.js';
import { mapramSave } from '../measured-save.js';
import { setCache } from '../page-cache.js';
import { cpuSeconds, runProcess } from '../process-usage.js';
import { StripedGuest } from '../striped-guest.js';

type Load = (vm: TestVm) => Promise<{ seconds: number; cpuSeconds: number; peakMemoryBytes?: number }>;

/** Into a QEMU of its own, started before and not measured, with memory that nobody has touched. */
async function measure(file: string, memoryMiB: number, load: Load): Promise<Sample> {
  await setCache(file, 'cold');
  await using vm = await startVm({ memory: 'shared-file', memoryMiB, guest: 'none', incoming: true });
  const before = cpuSeconds(vm.pid);
  const loaded = await load(vm);
  return {
    ...loaded,
    cpuSeconds: loaded.cpuSeconds + cpuSeconds(vm.pid) - before,
    cachedShare: cachedShare(file),
  };
}

/** `mapram restore`, from the start of the process to its end. */
const byMapram =
  (file: string, method: string, channels: number): Load =>
  async (vm) => {
    const main = path.join(repositoryRoot, 'dist', 'bin', 'mapram.cjs');
    const options = ['--method', method, '--direct-io', 'on', '--channels', String(channels)];
    return await runProcess(process.execPath, [main, 'restore', ...options, file, vm.qmpPath]);
  };

/** QEMU's own load, from `migrate-incoming` to `completed`. */
const byQemu =
  (file: string, channels: number): Load =>
  async (vm) => {
    const start = performance.now();
    await loadMappedRam(vm, file, { channels, directIo: true });
    return { seconds: (performance.now() - start) / 1000, cpuSeconds: 0 };
  };

export const restoreBenchmark: Benchmark = {
  name: 'restore',
  title: 'Load into a waiting QEMU 10.0, direct I/O',
  description:
    'The guest of save-stopped (4 GiB; quick: 1 GiB), saved by mapram, loaded into a QEMU that waits with fresh shared memory. mapram: the whole command, checks of structure included. QEMU: from `migrate-incoming` to `completed`.',
  goals: [
    { group: 'mapram', against: 'QEMU', timeAtMost: 1 },
    { group: 'mapram', cachedAtMost: 0.01 },
  ],
  async prepare({ folder, quick }) {
    const memoryMiB = quick ? 1024 : 4096;
    const file = path.join(folder, 'restore');
    let bytes: number;
    {
      await using guest = await StripedGuest.start(memoryMiB, ['10.0']);
      bytes = guest.randomBytes;
      await mapramSave(guest.vms[0] as TestVm, file, 'shared', 4);
    }
    const contender = (name: string, group: string, load: Load): Contender => ({
      name,
      group,
      run: () => measure(file, memoryMiB, load),
    });
    return {
      contenders: [
        contender('mapram shared, 2 channels', 'mapram', byMapram(file, 'shared', 2)),
        contender('mapram shared, 4 channels', 'mapram', byMapram(file, 'shared', 4)),
        contender('mapram stream, 4 channels', 'mapram, stream', byMapram(file, 'stream', 4)),
        contender('QEMU, 2 channels', 'QEMU', byQemu(file, 2)),
        contender('QEMU, 4 channels', 'QEMU', byQemu(file, 4)),
      ],
      bytes,
      [Symbol.asyncDispose]: () => startFresh(file),
    };
  },
};
