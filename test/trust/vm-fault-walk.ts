/** Lets system calls fail in saves, loads and resumes of a real VM: the VM goes on, files are whole or the old ones, nothing leaks. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { MapramError } from '../../src/errors.js';
import { type Fault, installFaults } from '../../src/io/faults.js';
import { removeLeftOver } from '../../src/snapshot/files/left-over-parts.js';
import { partPathOf } from '../../src/snapshot/files/target-file.js';
import { takeAbandonedRecords } from '../../src/snapshot/guard/save-record.js';
import { restore } from '../../src/snapshot/restore/restore.js';
import { resume } from '../../src/snapshot/resume/resume.js';
import { type SaveOptions, save } from '../../src/snapshot/save/save.js';
import { verify } from '../../src/snapshot/verify/verify.js';
import { startVm, type TestVm, type VmOptions } from '../support/qemu.js';
import { commandIn, processesWith } from '../support/resumed-guest.js';
import { identity, settingsOf } from './before-and-after.js';
import { describeFault, type FaultChoice, faultsOf, NUISANCES, resourcesInUse } from './fault-walk.js';

/** How many calls failed, and how many of them made the operation fail. */
export interface WalkCounts {
  faults: number;
  failures: number;
}

/** What was begun may need a moment to end behind an operation that has failed: QEMU's own threads, the guard's shell. */
const SETTLING_MS = 10_000;
/** A walk over thousands of calls says now and then where it is. */
const TELL_EVERY = 100;

/**
 * Saves `vm` over an existing file, with one call failing each time.
 *
 * @param choice of the faults; the folder of `file` holds nothing else, and is the runtime directory meanwhile
 */
export async function walkSaves(
  vm: TestVm,
  file: string,
  options: Omit<SaveOptions, 'vm' | 'file'>,
  choice: FaultChoice,
): Promise<WalkCounts> {
  const folder = path.dirname(file);
  const run = () => save({ vm: vm.qmpPath, file, force: true, channels: 2, ...options });
  return await inRuntimeDirectory(folder, async () => {
    await run();
    const faults = [...(await faultsOf(run, choice)), ...NUISANCES];
    const before = await resourcesInUse();
    const settings = await settingsOf(vm);
    let failures = 0;
    for (const [index, fault] of faults.entries()) {
      const where = `${options.method ?? 'auto'}, ${describeFault(fault)}`;
      if (index > 0 && index % TELL_EVERY === 0) console.log(`${where} (${index} of ${faults.length})`);
      const old = identity(file);
      const failure = await failureOf(run, fault, where);
      if (failure !== undefined) failures++;
      if (NUISANCES.includes(fault)) assert.equal(failure, undefined, where);
      await until(async () => (await vm.status()) === 'running', `the VM does not run, ${where}`);
      if (fault.call === 'unlink') {
        removeLeftOver(partPathOf(file));
        for (const held of takeAbandonedRecords()) held.remove();
      }
      await until(async () => recordsIn(folder) === 0, `a record is left, ${where}`);
      assert.deepEqual(namesIn(folder), [path.basename(file)], where);
      // A failure behind the renaming leaves the new file; in any other case it is the old one, and both are whole.
      if (failure === undefined) assert.notEqual(identity(file), old, where);
      assert.deepEqual((await verify({ file, channels: 1 })).problems, [], where);
      assert.deepEqual(await settingsOf(vm), settings, `migration settings, ${where}`);
      await untilSame(before, where);
    }
    await vm.console.waitForCounterAbove(vm.console.counter + 2);
    assert.deepEqual(vm.console.torn, []);
    return { faults: faults.length, failures };
  });
}

/**
 * Loads `file` into a new VM each time. One that fails leaves the VM waiting or ended, never running.
 *
 * @param checksum of the guest's data, which one that was loaded must show
 */
export async function walkRestores(
  file: string,
  vmOptions: VmOptions,
  method: 'shared' | 'native' | 'stream',
  checksum: string | undefined,
  choice: FaultChoice,
): Promise<WalkCounts> {
  const load = (vm: TestVm) => restore({ file, vm: vm.qmpPath, method, channels: 2, verify: true });
  let faults: Fault[];
  {
    await using vm = await startVm({ ...vmOptions, incoming: true });
    faults = [...(await faultsOf(() => load(vm), choice)), ...NUISANCES];
  }
  const before = await resourcesInUse();
  const old = identity(file);
  let failures = 0;
  for (const fault of faults) {
    const where = `${method}, ${describeFault(fault)}`;
    {
      await using vm = await startVm({ ...vmOptions, incoming: true });
      const failure = await failureOf(() => load(vm), fault, where);
      if (NUISANCES.includes(fault)) assert.equal(failure, undefined, where);
      if (failure === undefined) {
        await vm.console.waitForCounterAbove();
        assert.equal(await vm.console.checksum(), checksum, where);
      } else {
        failures++;
        // A QEMU 10.0 that waits for the pages of a broken channel answers nothing any more.
        const state = vm.ended ? 'ended' : await Promise.race([vm.status(), delay(2000, 'silent')]);
        assert.notEqual(state, 'running', where);
      }
    }
    assert.equal(identity(file), old, where);
    await untilSame(before, where);
  }
  return { faults: faults.length, failures };
}

/** Resumes from `file`. A failure leaves no process. */
export async function walkResumes(
  file: string,
  vm: TestVm,
  folder: string,
  choice: FaultChoice,
): Promise<WalkCounts> {
  const command = commandIn(vm, folder);
  const run = async () => {
    await using resumed = await resume({ file, command, verify: true });
    assert.equal(resumed.facts.runState, 'running');
    return await resumed.verified;
  };
  const faults = [...(await faultsOf(run, choice)), ...NUISANCES];
  const before = await resourcesInUse();
  const old = identity(file);
  let failures = 0;
  for (const fault of faults) {
    const where = `resume, ${describeFault(fault)}`;
    const failure = await failureOf(run, fault, where);
    if (failure !== undefined) failures++;
    if (NUISANCES.includes(fault)) assert.equal(failure, undefined, where);
    assert.deepEqual(processesWith(file), [], where);
    assert.equal(identity(file), old, where);
    await untilSame(before, where);
  }
  return { faults: faults.length, failures };
}

/** Undefined when it went well. */
async function failureOf(run: () => Promise<unknown>, fault: Fault, where: string): Promise<unknown> {
  using _ = installFaults([fault]);
  return await run().then(
    () => undefined,
    (error: unknown) => {
      assert.ok(error instanceof MapramError, `${where}: ${error}`);
      assert.doesNotMatch(error.message, /\n/);
      return error;
    },
  );
}

async function untilSame(before: Record<string, number>, where: string): Promise<void> {
  const deadline = performance.now() + SETTLING_MS;
  for (;;) {
    const now = await resourcesInUse();
    // A VM of the test that had just ended may have been counted before.
    if (Object.entries(now).every(([name, count]) => count <= (before[name] ?? 0))) return;
    if (performance.now() > deadline) assert.deepEqual(now, before, `leaked, ${where}`);
    await delay(10);
  }
}

async function until(condition: () => Promise<boolean>, problem: string): Promise<void> {
  const deadline = performance.now() + SETTLING_MS;
  while (!(await condition())) {
    if (performance.now() > deadline) assert.fail(problem);
    await delay(10);
  }
}

async function inRuntimeDirectory<T>(folder: string, work: () => Promise<T>): Promise<T> {
  const { XDG_RUNTIME_DIR: before } = process.env;
  process.env.XDG_RUNTIME_DIR = folder;
  try {
    return await work();
  } finally {
    if (before === undefined) delete process.env.XDG_RUNTIME_DIR;
    else process.env.XDG_RUNTIME_DIR = before;
  }
}

const namesIn = (folder: string) => readdirSync(folder).filter((name) => name !== 'mapram');

function recordsIn(folder: string): number {
  const records = path.join(folder, 'mapram');
  return existsSync(records) ? readdirSync(records).length : 0;
}
