import path from 'node:path';
import { repositoryRoot } from '../../test/support/environment.js';
import type { TestVm } from '../../test/support/qemu.js';
import type { Benchmark } from '../benchmark.js';
import { fioDirect, fioJobs } from '../fio.js';
import { cachedShare, startFresh } from '../fresh-file.js';
import { mapramSave } from '../measured-save.js';
import { setCache } from '../page-cache.js';
import { runProcess } from '../process-usage.js';
import { StripedGuest } from '../striped-guest.js';

export const verifyBenchmark: Benchmark = {
  name: 'verify',
  title: 'Verification of a saved VM, direct I/O',
  description:
    'The file of save-stopped (guest of 4 GiB; quick: 1 GiB). mapram: the whole command, which reads all pages and compares them with their checksums. fio: reading as many bytes of a dense file.',
  goals: [
    // At least 0.90 of the rate.
    { group: 'mapram', against: 'fio', timeAtMost: 1 / 0.9 },
    { group: 'mapram', cachedAtMost: 0.01 },
  ],
  async prepare({ folder, quick }) {
    const file = path.join(folder, 'verify');
    const dense = path.join(folder, 'verify-fio');
    let bytes: number;
    {
      await using guest = await StripedGuest.start(quick ? 1024 : 4096, ['10.0']);
      bytes = guest.randomBytes;
      await mapramSave(guest.vms[0] as TestVm, file, 'shared', 4);
    }
    await fioDirect('write', dense, bytes, { engine: 'psync', jobs: 2, depth: 1 });
    const main = path.join(repositoryRoot, 'dist', 'bin', 'mapram.cjs');
    return {
      contenders: [
        ...[2, 4, 8].map((channels) => ({
          name: `mapram verify, ${channels} channels`,
          group: 'mapram',
          run: async () => {
            await setCache(file, 'cold');
            const options = ['--direct-io', 'on', '--channels', String(channels)];
            const run = await runProcess(process.execPath, [main, 'verify', ...options, file]);
            return { ...run, cachedShare: cachedShare(file) };
          },
        })),
        ...fioJobs.map(({ name, job }) => ({
          name,
          group: 'fio',
          run: () => fioDirect('read', dense, bytes, job),
        })),
      ],
      bytes,
      [Symbol.asyncDispose]: async () => {
        await startFresh(file);
        await startFresh(dense);
      },
    };
  },
};
