import { existsSync } from 'node:fs';
import path from 'node:path';
import { save } from '../../src/snapshot/save/save.js';
import { startBootedVm } from '../../test/support/booted-vm.js';
import { repositoryRoot } from '../../test/support/environment.js';
import { saveStream } from '../../test/support/native-migration.js';
import type { Benchmark } from '../benchmark.js';
import { startFresh } from '../fresh-file.js';
import { runProcess } from '../process-usage.js';

/** Path of `scripts/analyze-migration.py` out of QEMU's source, which no package has. */
const SCRIPT = process.env.ANALYZE_MIGRATION;

export const inspectBenchmark: Benchmark = {
  name: 'inspect',
  title: 'Inspecting a saved VM of 16 GiB',
  description:
    "A Linux guest of 16 GiB (quick: 1 GiB), mostly empty, 64 MiB of random data in it. mapram: `inspect` and `inspect --devices`, the whole commands. QEMU's own script analyze-migration, on a plain stream of the same VM, where the variable ANALYZE_MIGRATION names it.",
  goals: [
    { group: 'mapram', secondsAtMost: 0.25 },
    { group: 'mapram', against: 'analyze-migration', timeAtMost: 0.02 },
  ],
  async prepare({ folder, quick }) {
    const file = path.join(folder, 'inspect');
    const stream = path.join(folder, 'inspect-stream');
    const script = SCRIPT !== undefined && existsSync(SCRIPT) ? SCRIPT : undefined;
    {
      await using vm = await startBootedVm({ memoryMiB: quick ? 1024 : 16_384, fillMiB: 64 });
      await save({ vm: vm.qmpPath, file, method: 'native', force: true });
      if (script !== undefined) await saveStream(vm, stream, 'cat >');
    }
    const main = path.join(repositoryRoot, 'dist', 'bin', 'mapram.cjs');
    const inspect = (...options: string[]) =>
      runProcess(process.execPath, [main, 'inspect', ...options, file]);
    return {
      contenders: [
        { name: 'mapram inspect', group: 'mapram', run: () => inspect() },
        { name: 'mapram inspect --devices', group: 'mapram, devices', run: () => inspect('--devices') },
        ...(script === undefined
          ? []
          : [
              {
                name: 'analyze-migration',
                group: 'analyze-migration',
                run: () => runProcess('python3', [script, '-f', stream]),
              },
            ]),
      ],
      [Symbol.asyncDispose]: async () => {
        await startFresh(file);
        await startFresh(stream);
      },
    };
  },
};
