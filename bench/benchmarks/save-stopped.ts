import path from 'node:path';
import type { TestVm } from '../../test/support/qemu.js';
import type { Benchmark, Contender, Sample } from '../benchmark.js';
import { type FioJob, fioDirect, fioJobs } from '../fio.js';
import { cachedShare, startFresh, timedSync } from '../fresh-file.js';
import { mapramSave, nativeSave } from '../measured-save.js';
import { StripedGuest } from '../striped-guest.js';

async function fioWrite(file: string, bytes: number, job: FioJob): Promise<Sample> {
  await startFresh(file);
  const sample = await fioDirect('write', file, bytes, job);
  return { ...sample, seconds: sample.seconds + timedSync(file), cachedShare: cachedShare(file) };
}

export const saveStopped: Benchmark = {
  name: 'save-stopped',
  title: 'Save of a stopped VM, direct I/O, synced',
  description:
    'A guest of 4 GiB (quick: 1 GiB), 75 % of it random and 25 % zero in stripes of 1 MiB. mapram: the whole command. QEMU: from `migrate` to `completed`, then fsync. fio: writing as many bytes to a fresh file, then fsync.',
  goals: [
    { group: 'mapram', against: 'QEMU', timeAtMost: 0.66 },
    { group: 'mapram', against: 'fio', timeAtMost: 1 },
    { group: 'mapram', against: 'QEMU', cpuAtMost: 1 },
    { group: 'mapram', memoryAtMost: 150 * 2 ** 20 },
    { group: 'mapram', cachedAtMost: 0.01 },
  ],
  async prepare({ folder, quick }) {
    const guest = await StripedGuest.start(quick ? 1024 : 4096, ['10.0', '10.0']);
    const [own, stock] = guest.vms as [TestVm, TestVm];
    const file = path.join(folder, 'save-stopped');
    const contenders: Contender[] = [
      { name: 'mapram shared, 1 channel', group: 'mapram', run: () => mapramSave(own, file, 'shared', 1) },
      { name: 'mapram shared, 2 channels', group: 'mapram', run: () => mapramSave(own, file, 'shared', 2) },
      { name: 'mapram shared, 4 channels', group: 'mapram', run: () => mapramSave(own, file, 'shared', 4) },
      { name: 'QEMU native, 2 channels', group: 'QEMU', run: () => nativeSave(stock, file, 2) },
      { name: 'QEMU native, 4 channels', group: 'QEMU', run: () => nativeSave(stock, file, 4) },
      ...fioJobs.map(({ name, job }) => ({
        name,
        group: 'fio',
        run: () => fioWrite(file, guest.randomBytes, job),
      })),
    ];
    return {
      contenders,
      bytes: guest.randomBytes,
      [Symbol.asyncDispose]: async () => {
        await guest[Symbol.asyncDispose]();
        await startFresh(file);
      },
    };
  },
};
