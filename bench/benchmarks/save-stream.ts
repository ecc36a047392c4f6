import path from 'node:path';
import type { TestVm } from '../../test/support/qemu.js';
import type { Benchmark, Contender } from '../benchmark.js';
import { startFresh } from '../fresh-file.js';
import { execSave, mapramSave, nativeSave } from '../measured-save.js';
import { StripedGuest } from '../striped-guest.js';

/** As people write it to keep a stream out of the page cache. A pipe gives short reads, which O_DIRECT does not take. */
const DIRECT_DD = 'dd bs=4M iflag=fullblock oflag=direct status=none of=';

export const saveStream: Benchmark = {
  name: 'save-stream',
  title: 'Save of a stopped VM of QEMU 7.2, synced',
  description:
    'A guest of 4 GiB (quick: 1 GiB), 75 % of it random and 25 % zero in stripes of 1 MiB, saved from QEMU 7.2, which has neither mapped-ram nor direct-io. mapram: the whole command, direct I/O, with checksums. exec: from `migrate` to `completed`, then fsync, without a limit on bandwidth. QEMU 10.0 writes the same memory with its own mapped-ram and direct-io, for comparison.',
  goals: [
    { group: 'mapram', against: 'exec:cat', timeAtMost: 0.33 },
    { group: 'mapram', against: 'exec:dd', timeAtMost: 1 },
  ],
  async prepare({ folder, quick }) {
    const guest = await StripedGuest.start(quick ? 1024 : 4096, ['7.2', '7.2', '10.0']);
    const [own, old, stock] = guest.vms as [TestVm, TestVm, TestVm];
    const file = path.join(folder, 'save-stream');
    const contenders: Contender[] = [
      ...[undefined, 2, 4].map((channels) => ({
        name: channels === undefined ? 'mapram stream' : `mapram stream, ${channels} channels`,
        group: 'mapram',
        run: () => mapramSave(own, file, 'stream', channels),
      })),
      { name: 'migrate exec:cat', group: 'exec:cat', run: () => execSave(old, file, 'cat >') },
      {
        name: 'migrate exec:dd oflag=direct',
        group: 'exec:dd',
        run: () => execSave(old, file, DIRECT_DD),
      },
      { name: 'QEMU 10.0 native, 4 channels', group: 'QEMU 10.0', run: () => nativeSave(stock, file, 4) },
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
