/**
 * The long form of tests that are short in CI, for nights: `npm run soak -- [fuzz|flips|walk|kills|saves|replies …] [--seed=N]`.
 *
 *     fuzz    2,000,000 changed inputs for the readers
 *     flips   10,000 single-bit flips of a sealed file, verified one by one
 *     walk    every system call of saves, loads and resumes of a real VM fails once
 *     kills   300 saves of a real VM that are killed at random moments (needs what `npm run test:setup` fetches)
 *     replies 20,000 runs of random requests to a real QEMU 10.0 and to a monitor, which must say the same (needs that too;
 *             MAPRAM_DIFFERENTIAL_RUNS for another number)
 *     saves   200 saves by stream, each in another way, half of them of QEMU 7.2, and every file is run (needs that too)
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { save } from '../../src/snapshot/save.js';
import { fuzz } from '../fuzz/fuzz.js';
import { fuzzTargets } from '../fuzz/targets.js';
import { Folder, writeSealedImage } from '../manifest/sample.js';
import { startVm } from '../support/qemu.js';
import { flipBits } from '../trust/bit-flips.js';
import { killSaves } from '../trust/kill-save.js';
import { saveAgainAndAgain } from '../trust/repeated-saves.js';
import { walkRestores, walkResumes, walkSaves } from '../trust/vm-fault-walk.js';

const FUZZ_INPUTS = 2_000_000;
const FLIPS = 10_000;
const KILLS = 300;
const SAVES = 200;
const DIFFERENTIAL_RUNS = 20_000;

const soaks = {
  async fuzz(seed: number): Promise<void> {
    const targets = await fuzzTargets();
    const totalWeight = targets.reduce((sum, { weight }) => sum + weight, 0);
    for (const target of targets) {
      const report = await fuzz(target, Math.ceil((FUZZ_INPUTS * target.weight) / totalWeight), seed);
      console.log(`${target.name}: ${JSON.stringify(report)}`);
    }
  },
  async flips(seed: number): Promise<void> {
    using folder = new Folder();
    const file = folder.file('vm');
    await writeSealedImage(file, { stale: [130, 150, 200, 201, 202] });
    console.log(JSON.stringify(await flipBits(file, FLIPS, seed)));
  },
  async walk(): Promise<void> {
    using folder = new Folder();
    await using vm = await startVm({ memory: 'shared-file', guest: 'tiny' });
    const own = (name: string) => {
      mkdirSync(folder.file(name));
      return path.join(folder.file(name), 'vm');
    };
    for (const method of ['shared', 'native', 'stream'] as const) {
      const counts = await walkSaves(vm, own(method), { method }, Number.POSITIVE_INFINITY);
      console.log(`save by ${method}: ${JSON.stringify(counts)}`);
    }
    const file = own('sound');
    await save({ vm: vm.qmpPath, file, method: 'shared' });
    for (const method of ['native', 'stream'] as const) {
      const counts = await walkRestores(file, { memory: 'shared-file' }, method, Number.POSITIVE_INFINITY);
      console.log(`load by ${method}: ${JSON.stringify(counts)}`);
    }
    const counts = await walkResumes(file, vm, path.dirname(own('sockets')), Number.POSITIVE_INFINITY);
    console.log(`resume: ${JSON.stringify(counts)}`);
  },
  async kills(seed: number): Promise<void> {
    for (const method of ['shared', 'native', 'stream']) {
      using folder = new Folder();
      await using vm = await startVm({ memory: 'shared-file', guest: 'tiny' });
      const counts = await killSaves(vm, folder.file('vm'), KILLS / 3, seed, ['--method', method]);
      console.log(`${method}: ${JSON.stringify(counts)}`);
    }
  },
  async saves(seed: number): Promise<void> {
    for (const qemu of ['10.0', '7.2'] as const) {
      await using vm = await startVm({ qemu, machine: 'pc', guest: 'tiny' });
      const counts = await saveAgainAndAgain(vm, SAVES / 2, seed);
      console.log(`QEMU ${qemu}: ${JSON.stringify(counts)}`);
    }
  },
  async replies(seed: number): Promise<void> {
    const test = path.join(import.meta.dirname, '..', 'qemu', 'monitor-differential.test.js');
    const { MAPRAM_DIFFERENTIAL_RUNS = String(DIFFERENTIAL_RUNS) } = process.env;
    const child = spawn(process.execPath, ['--enable-source-maps', '--test-reporter=spec', test], {
      env: { ...process.env, MAPRAM_DIFFERENTIAL_RUNS, MAPRAM_DIFFERENTIAL_SEED: String(seed) },
      stdio: 'inherit',
    });
    const [code] = await once(child, 'exit');
    assert.equal(code, 0);
  },
};

const words = process.argv.slice(2);
const seed = Number(
  words.find((word) => word.startsWith('--seed='))?.slice('--seed='.length) ?? Date.now() % 2 ** 31,
);
assert.ok(Number.isSafeInteger(seed), 'the seed is a whole number');
const wanted = words.filter((word) => !word.startsWith('--'));
for (const word of wanted) assert.ok(word in soaks, `there is no soak ${word}`);
console.log(`seed ${seed}`);
for (const [name, soak] of Object.entries(soaks)) {
  if (wanted.length > 0 && !wanted.includes(name)) continue;
  const startedAt = performance.now();
  await soak(seed);
  console.log(`${name}: ${Math.round((performance.now() - startedAt) / 1000)} s`);
}
