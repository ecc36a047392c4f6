import { mkdirSync, readdirSync, rmSync, statSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { save } from '../../src/snapshot/save/save.js';
import { startBootedVm } from '../../test/support/booted-vm.js';
import { programPath, repositoryRoot } from '../../test/support/environment.js';
import type { Benchmark, Contender, Sample } from '../benchmark.js';
import { runProcess } from '../process-usage.js';

/** What the guest rewrites all the time. */
const WORK = { sizeMiB: 24, rateMiB: 4 };
/** How long the guest works between its two saves. */
const WORK_MS = 30_000;
const MIB = 2 ** 20;

/** Bytes of all files below a folder. */
function bytesBelow(folder: string): number {
  return (readdirSync(folder, { recursive: true }) as string[])
    .map((name) => statSync(path.join(folder, name)))
    .reduce((sum, status) => sum + (status.isFile() ? status.size : 0), 0);
}

/** Two saves of a Linux guest that rewrites some of its memory all the time. */
async function saveTwice(folder: string, memoryMiB: number): Promise<[first: string, second: string]> {
  await using vm = await startBootedVm({ memoryMiB, fillMiB: 192, memory: 'shared-file', churn: WORK });
  const files: [string, string] = [path.join(folder, 'first'), path.join(folder, 'second')];
  for (const [index, file] of files.entries()) {
    if (index > 0) await sleep(WORK_MS);
    await save({ vm: vm.qmpPath, file, method: 'shared', force: true, onWarning() {} });
  }
  return files;
}

/** One program with a store of its own, which each run begins anew or with the first file in it. */
abstract class Keeper {
  constructor(protected readonly folder: string) {}

  abstract init(): Promise<unknown>;
  abstract push(file: string): Promise<Sample>;
  abstract pull(file: string): Promise<Sample>;

  protected get store(): string {
    return path.join(this.folder, 'store');
  }

  /** The work, and by how much it made the store larger. */
  async measured(work: () => Promise<Sample>): Promise<Sample> {
    await runProcess('sync', []);
    const before = bytesBelow(this.store);
    const sample = await work();
    return { ...sample, figures: { 'stored MiB': (bytesBelow(this.store) - before) / MIB } };
  }

  async fresh(...files: string[]): Promise<void> {
    rmSync(this.folder, { recursive: true, force: true });
    mkdirSync(this.store, { recursive: true });
    await this.init();
    for (const file of files) await this.push(file);
  }

  contenders(name: string, [first, second]: [string, string]): Contender[] {
    const out = path.join(this.folder, 'out');
    return [
      {
        name: `${name}, first`,
        group: name,
        run: async () => {
          await this.fresh();
          return await this.measured(() => this.push(first));
        },
      },
      {
        name: `${name}, second`,
        group: `${name} again`,
        run: async () => {
          await this.fresh(first);
          return await this.measured(() => this.push(second));
        },
      },
      {
        name: `${name}, back`,
        group: `${name} back`,
        run: async () => {
          await this.fresh(first);
          rmSync(out, { recursive: true, force: true });
          await runProcess('sync', []);
          return await this.pull(out);
        },
      },
    ];
  }
}

class Mapram extends Keeper {
  readonly #main = path.join(repositoryRoot, 'dist', 'bin', 'mapram.cjs');

  init() {
    return this.#run('init', `dir:${this.store}`);
  }

  push(file: string) {
    return this.#run('push', file, `dir:${this.store}/vm`);
  }

  pull(file: string) {
    return this.#run('pull', `dir:${this.store}/vm`, file);
  }

  #run(...args: string[]) {
    return runProcess(process.execPath, [this.#main, 'store', ...args]);
  }
}

class Restic extends Keeper {
  init() {
    return this.#run('init');
  }

  /** Both saves go by one name, as the file of one VM does. */
  push(file: string) {
    return this.#run('backup', '--compression', 'auto', '--stdin-filename', 'vm', file);
  }

  pull(file: string) {
    return this.#run('restore', 'latest', '--target', file);
  }

  #run(...args: string[]) {
    const cache = path.join(this.folder, 'cache');
    const env = ['RESTIC_PASSWORD=x', `RESTIC_REPOSITORY=${this.store}`, `RESTIC_CACHE_DIR=${cache}`];
    return runProcess('env', [...env, programPath('restic'), '--quiet', ...args]);
  }
}

export const storeBenchmark: Benchmark = {
  name: 'store',
  title: 'A store in a directory',
  description:
    'A Linux guest of 2 GiB (quick: 512 MiB) with 192 MiB of random data, which rewrites 24 MiB of others, saved twice, 30 s apart. Whole commands: into an empty store; the second save into a store that has the first; the first back out of it. restic with `--compression auto`; `zstd -1 -T0` of the first file.',
  goals: [
    { group: 'mapram store', against: 'restic', timeAtMost: 0.5 },
    { group: 'mapram store', against: 'zstd', timeAtMost: 1.2 },
    { group: 'mapram store again', against: 'mapram store', timeAtMost: 0.35 },
    { group: 'mapram store back', against: 'restic back', timeAtMost: 0.5 },
    { group: 'mapram store', against: 'restic', figure: 'stored MiB', figureAtMost: 1 },
    { group: 'mapram store', against: 'zstd', figure: 'stored MiB', figureAtMost: 1 },
    { group: 'mapram store again', against: 'restic again', figure: 'stored MiB', figureAtMost: 0.7 },
  ],
  async prepare({ folder, quick }) {
    const parent = path.join(folder, 'store-benchmark');
    rmSync(parent, { recursive: true, force: true });
    mkdirSync(parent, { recursive: true });
    const files = await saveTwice(parent, quick ? 512 : 2048);
    const compressed = path.join(parent, 'compressed');
    return {
      contenders: [
        ...new Mapram(path.join(parent, 'mapram')).contenders('mapram store', files),
        ...new Restic(path.join(parent, 'restic')).contenders('restic', files),
        {
          name: 'zstd -1 -T0',
          group: 'zstd',
          run: async () => {
            rmSync(compressed, { force: true });
            await runProcess('sync', []);
            const run = await runProcess('zstd', ['-q', '-1', '-T0', files[0], '-o', compressed]);
            return { ...run, figures: { 'stored MiB': statSync(compressed).size / MIB } };
          },
        },
      ],
      bytes: statSync(files[0]).blocks * 512,
      [Symbol.asyncDispose]: async () => rmSync(parent, { recursive: true, force: true }),
    };
  },
};
