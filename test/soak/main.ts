/**
 * The long form of tests that are short in CI, for nights:
 * `npm run soak -- [fuzz|corpus|flips|walk|kills|waiting|states|saves|replies …] [--seed=N] [--count=N]`.
 * A piece of a soak has the name of its part behind a colon: `walk:load-native`, `kills:stream`; a tenth of a walk is
 * `walk:native --slice=1/10`, one with at most 100 calls of each kind `walk:native --most=100`, what is left of one `--from=read:1033`.
 *
 *     fuzz    2,000,000 changed inputs for the readers
 *     corpus  20,000 changed inputs for each reader, of which those that reach new code are kept in test/fuzz/corpus, as small
 *             as they can be; `corpus:QMP` for one reader. Only when it is asked for, since it changes files of the repository
 *     flips   10,000 single-bit flips of a sealed file, verified one by one
 *     walk    every system call of saves, loads and resumes of a real VM fails once
 *     kills   300 saves of a real VM that are killed at random moments (needs what `npm run test:setup` fetches)
 *     replies 20,000 runs of random requests to a real QEMU 10.0 and to a monitor, which must say the same (needs that too;
 *             MAPRAM_DIFFERENTIAL_RUNS for another number)
 *     waiting 100 saves that are killed while two others wait at the monitor, for up to 8 s; `waiting:native` for one method
 *     states  saves from every run state, in every way, with each --then, of QEMU 10.0 and 7.2 (needs that too); `states:7.2` for one
 *     leaks   10,000 times in one process each: saves by every method, cancelled ones, verify, load, a monitor; figures every 500
 *             (needs that too); `leaks:shared` for one of them
 *     saves   200 saves by stream, each in another way, half of them of QEMU 7.2, and every file is run (needs that too)
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { IO_CALLS, type IoCall } from '../../src/io/faults.js';
import { save } from '../../src/snapshot/save/save.js';
import { folderNameOf } from '../fuzz/corpus.js';
import { fuzz } from '../fuzz/fuzz.js';
import { fuzzTargets } from '../fuzz/targets.js';
import { Folder, writeSealedImage } from '../manifest/sample.js';
import type { QemuName } from '../support/environment.js';
import { startVm } from '../support/qemu.js';
import { LOADABLE_STATES, OTHER_STATES } from '../support/run-state-vm.js';
import { flipBits } from '../trust/bit-flips.js';
import type { FaultChoice } from '../trust/fault-walk.js';
import { killSaves, killWithWaitingClients } from '../trust/kill-save.js';
import { assertNothingLeaked, operationsOn, repeated } from '../trust/leaks.js';
import { Random } from '../trust/random.js';
import { saveAgainAndAgain } from '../trust/repeated-saves.js';
import { saveInState, THENS, WAYS } from '../trust/run-states.js';
import { type WalkCounts, walkRestores, walkResumes, walkSaves } from '../trust/vm-fault-walk.js';

const FUZZ_INPUTS = 2_000_000;
/** For each reader. */
const CORPUS_INPUTS = 20_000;
const FLIPS = 10_000;
const KILLS = 300;
const WAITING_KILLS = 100;
const LONGEST_WAIT_MS = 8000;
const SAVES = 200;
const DIFFERENTIAL_RUNS = 20_000;
const LEAK_OPERATIONS = 10_000;
/** Operations between two lines of figures. */
const LEAK_STEP = 500;
const LEAK_WARM_UP = 20;

interface Wanted {
  seed: number;
  /** Of those that consist of several; all by default. */
  part?: string | undefined;
  /** Of inputs, flips, kills or saves. */
  count?: number | undefined;
  /** Of a walk. */
  slice?: { part: number; of: number };
  /** Where a walk begins. */
  from?: FaultChoice['from'];
  /** Of the calls of one kind in a walk; all by default. A save makes thousands of reads and writes. */
  most?: number | undefined;
}

const soaks = {
  async fuzz({ seed, count = FUZZ_INPUTS }: Wanted): Promise<void> {
    const targets = await fuzzTargets();
    const totalWeight = targets.reduce((sum, { weight }) => sum + weight, 0);
    for (const target of targets) {
      const report = await fuzz(target, Math.ceil((count * target.weight) / totalWeight), seed);
      console.log(`${target.name}: ${JSON.stringify(report)}`);
    }
  },
  async corpus({ seed, part, count = CORPUS_INPUTS }: Wanted): Promise<void> {
    const targets = Object.fromEntries((await fuzzTargets()).map((target) => [folderNameOf(target), target]));
    for (const [folder] of partsOf(targets, part)) {
      const script = path.join(import.meta.dirname, 'corpus.js');
      const child = spawn(
        process.execPath,
        ['--enable-source-maps', script, folder, String(count), String(seed)],
        { stdio: 'inherit' },
      );
      const [code] = await once(child, 'exit');
      assert.equal(code, 0);
    }
  },
  async flips({ seed, count = FLIPS }: Wanted): Promise<void> {
    using folder = new Folder();
    const file = folder.file('vm');
    await writeSealedImage(file, { stale: [130, 150, 200, 201, 202] });
    console.log(JSON.stringify(await flipBits(file, count, seed)));
  },
  async walk({ part, slice, from, most = Number.POSITIVE_INFINITY }: Wanted): Promise<void> {
    using folder = new Folder();
    await using vm = await startVm({ memory: 'shared-file', guest: 'tiny' });
    const own = (name: string) => {
      mkdirSync(folder.file(name));
      return path.join(folder.file(name), 'vm');
    };
    const sound = own('sound');
    await save({ vm: vm.qmpPath, file: sound, method: 'shared' });
    const all = { most, ...slice, ...(from ? { from } : {}) };
    const loaded = { memory: 'shared-file' } as const;
    const walks: Record<string, () => Promise<WalkCounts>> = {
      shared: () => walkSaves(vm, own('shared'), { method: 'shared' }, all),
      native: () => walkSaves(vm, own('native'), { method: 'native' }, all),
      stream: () => walkSaves(vm, own('stream'), { method: 'stream' }, all),
      'load-shared': () => walkRestores(sound, loaded, 'shared', vm.console.bootChecksum, all),
      'load-native': () => walkRestores(sound, loaded, 'native', vm.console.bootChecksum, all),
      'load-stream': () => walkRestores(sound, loaded, 'stream', vm.console.bootChecksum, all),
      resume: () => walkResumes(sound, vm, path.dirname(own('sockets')), all),
    };
    for (const [name, walk] of partsOf(walks, part))
      console.log(`walk:${name}: ${JSON.stringify(await walk())}`);
  },
  async kills({ seed, part, count = KILLS }: Wanted): Promise<void> {
    const methods = { shared: 'shared', native: 'native', stream: 'stream' };
    for (const [method] of partsOf(methods, part)) {
      using folder = new Folder();
      await using vm = await startVm({ memory: 'shared-file', guest: 'tiny' });
      const counts = await killSaves(vm, folder.file('vm'), Math.ceil(count / 3), seed, ['--method', method]);
      console.log(`kills:${method}: ${JSON.stringify(counts)}`);
    }
  },
  async waiting({ seed, part, count = WAITING_KILLS }: Wanted): Promise<void> {
    const random = new Random(seed);
    const methods = { shared: 'shared', native: 'native', stream: 'stream' };
    for (const [method] of partsOf(methods, part)) {
      using folder = new Folder();
      await using vm = await startVm({ memory: 'shared-file', guest: 'tiny' });
      for (let kill = 0; kill < Math.ceil(count / 3); kill++) {
        const waitingMs = random.below(LONGEST_WAIT_MS);
        await killWithWaitingClients(vm, folder.file('vm'), ['--method', method], waitingMs);
      }
      console.log(`waiting:${method}: ${Math.ceil(count / 3)} kills`);
    }
  },
  async states({ part }: Wanted): Promise<void> {
    const releases = { '10.0': '10.0', '7.2': '7.2' } as const;
    for (const [, qemu] of partsOf<QemuName>(releases, part)) {
      using folder = new Folder();
      let saves = 0;
      for (const state of [...LOADABLE_STATES, ...OTHER_STATES]) {
        if (state === 'save-vm' && qemu === '7.2') continue;
        for (const way of WAYS) {
          for (const then of THENS) {
            await saveInState(state, qemu, way, then, folder.path);
            saves++;
          }
        }
        console.log(`states:${qemu}: ${state}, ${saves} saves`);
      }
    }
  },
  async leaks({ part, count = LEAK_OPERATIONS }: Wanted): Promise<void> {
    using folder = new Folder();
    await using vm = await startVm({ memory: 'shared-file', guest: 'tiny' });
    const operations = partsOf(operationsOn(vm, folder.file('vm')), part);
    // `verify` needs a file.
    await operationsOn(vm, folder.file('vm')).shared?.(0);
    for (const [name, operation] of operations) {
      const { before } = await repeated(operation, LEAK_WARM_UP, 0);
      for (let done = 0; done < count; ) {
        const step = Math.min(LEAK_STEP, count - done);
        const { after } = await repeated(operation, 0, step);
        done += step;
        console.log(`leaks:${name}: after ${done}: ${JSON.stringify({ before, after })}`);
        assertNothingLeaked({ before, after }, done);
      }
    }
  },
  async saves({ seed, count = SAVES }: Wanted): Promise<void> {
    for (const qemu of ['10.0', '7.2'] as const) {
      await using vm = await startVm({ qemu, machine: 'pc', guest: 'tiny' });
      const counts = await saveAgainAndAgain(vm, Math.ceil(count / 2), seed);
      console.log(`QEMU ${qemu}: ${JSON.stringify(counts)}`);
    }
  },
  async replies({ seed, count = DIFFERENTIAL_RUNS }: Wanted): Promise<void> {
    const test = path.join(import.meta.dirname, '..', 'qemu', 'monitor-differential.test.js');
    const child = spawn(process.execPath, ['--enable-source-maps', '--test-reporter=spec', test], {
      env: {
        ...process.env,
        MAPRAM_DIFFERENTIAL_RUNS: String(count),
        MAPRAM_DIFFERENTIAL_SEED: String(seed),
      },
      stdio: 'inherit',
    });
    const [code] = await once(child, 'exit');
    assert.equal(code, 0);
  },
};

/** Those of a soak's parts that are wanted. */
function partsOf<T>(parts: Record<string, T>, part: string | undefined): [string, T][] {
  assert.ok(
    part === undefined || part in parts,
    `there is no part ${part}: ${Object.keys(parts).join(', ')}`,
  );
  return Object.entries(parts).filter(([name]) => part === undefined || part === name);
}

const words = process.argv.slice(2);

function numberFrom(option: string): number | undefined {
  const given = words.find((word) => word.startsWith(`--${option}=`))?.slice(option.length + 3);
  if (given === undefined) return undefined;
  assert.ok(Number.isSafeInteger(Number(given)), `--${option} is a whole number`);
  return Number(given);
}

const seed = numberFrom('seed') ?? Date.now() % 2 ** 31;
const count = numberFrom('count');
const most = numberFrom('most');
const [, slicePart = '1', sliceOf = '1'] =
  words.map((word) => /^--slice=(\d+)\/(\d+)$/.exec(word)).find((found) => found !== null) ?? [];
const [, fromCall, fromNth] =
  words.map((word) => /^--from=(\w+):(\d+)$/.exec(word)).find((found) => found !== null) ?? [];
const from = fromCall === undefined ? undefined : { call: fromCall as IoCall, nth: Number(fromNth) };
if (from) assert.ok(IO_CALLS.includes(from.call), `there is no call ${from.call}: ${IO_CALLS.join(', ')}`);
const slice = { part: Number(slicePart), of: Number(sliceOf) };
const pieces = words.filter((word) => !word.startsWith('--')).map((word) => word.split(':'));
for (const [name = ''] of pieces) assert.ok(name in soaks, `there is no soak ${name}`);
console.log(`seed ${seed}`);
const unasked = Object.keys(soaks).filter((name) => name !== 'corpus');
for (const [name, part] of pieces.length > 0 ? pieces : unasked.map((name) => [name])) {
  const startedAt = performance.now();
  await soaks[name as keyof typeof soaks]({ seed, part, count, slice, most, ...(from ? { from } : {}) });
  console.log(`${name}: ${Math.round((performance.now() - startedAt) / 1000)} s`);
}
