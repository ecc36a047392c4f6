import path from 'node:path';
import type { TestVm } from '../../test/support/qemu.js';
import type { Benchmark, Contender } from '../benchmark.js';
import { startFresh } from '../fresh-file.js';
import { mapramSave } from '../measured-save.js';
import { StripedGuest } from '../striped-guest.js';

const methods = ['shared', 'native', 'stream'] as const;

export const saveMethods: Benchmark = {
  name: 'save-methods',
  title: 'Ways of saving a stopped VM, synced',
  description:
    'A guest of 4 GiB (quick: 1 GiB) in QEMU 10.0, 75 % of it random and 25 % zero in stripes of 1 MiB, in memory that every method can save. The whole command, direct I/O, with checksums: what the order in which `--method auto` tries them rests upon.',
  goals: [],
  async prepare({ folder, quick }) {
    const guest = await StripedGuest.start(quick ? 1024 : 4096, ['10.0']);
    const [vm] = guest.vms as [TestVm];
    const file = path.join(folder, 'save-methods');
    const contenders: Contender[] = methods.map((method) => ({
      name: `--method ${method}`,
      group: method,
      run: () => mapramSave(vm, file, method),
    }));
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
