/** Kills `mapram save` at random moments. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { verify } from '../../src/snapshot/verify/verify.js';
import type { TestVm } from '../support/qemu.js';
import { processesWith } from '../support/resumed-guest.js';
import { identity, settingsOf } from './before-and-after.js';
import { Random } from './random.js';

const CLI = path.resolve(import.meta.dirname, '..', '..', 'src', 'cli', 'main.js');

/** After at most this time a VM that was saved must run again. */
const RESCUE_MS = 5000;
/** What the save has left on the disk may take longer to go, on a busy machine. */
const CLEANUP_MS = 30_000;

export interface KillCounts {
  /** Killed before the new file was complete: the old one was there, untouched. */
  old: number;
  /** The new file was there, whole. */
  new: number;
  /** How often the VM was found stopped behind the kill, and after which time from the kill it ran again, in ms. */
  stopped: number;
  medianStopMs: number;
  longestStopMs: number;
}

/**
 * Lets the CLI save `vm` over an existing file `count` times, kills it with SIGKILL somewhere between its start and a
 * little after its usual end, and looks at VM and file each time.
 */
export async function killSaves(
  vm: TestVm,
  file: string,
  count: number,
  seed: number,
  args: readonly string[] = [],
): Promise<KillCounts> {
  const random = new Random(seed);
  const environment = { ...process.env, XDG_RUNTIME_DIR: path.dirname(file) };
  const save = () =>
    spawn(process.execPath, [CLI, 'save', vm.qmpPath, file, '--force', ...args], {
      env: environment,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
  const ended = (child: ReturnType<typeof save>) =>
    new Promise<number | null>((resolve) => child.once('close', (code) => resolve(code)));
  const startedAt = performance.now();
  assert.equal(await ended(save()), 0, 'the save works when it is left alone');
  const usualMs = performance.now() - startedAt;
  const settings = await settingsOf(vm);
  const counts = { old: 0, new: 0 };
  const stops: number[] = [];
  for (let round = 0; round < count; round++) {
    const before = identity(file);
    const afterMs = random.below(Math.ceil(usualMs * 1.2));
    const where = `killed after ${afterMs} ms of about ${Math.round(usualMs)}, round ${round}, seed ${seed}`;
    const child = save();
    const end = ended(child);
    await Promise.race([end, delay(afterMs)]);
    const killedAt = performance.now();
    child.kill('SIGKILL');
    let wasStopped = false;
    const runs = async () => {
      if ((await vm.status()) === 'running') return true;
      wasStopped = true;
      return false;
    };
    await until(runs, `the VM does not run, ${where}`, killedAt + RESCUE_MS);
    if (wasStopped) stops.push(Math.round(performance.now() - killedAt));
    await end;
    await untilCleanedUp(file, where);
    await vm.console.waitForCounterAbove(vm.console.counter + 2);
    assert.deepEqual(await settingsOf(vm), settings, `migration settings, ${where}`);
    if (identity(file) === before) counts.old++;
    else counts.new++;
    assert.deepEqual((await verify({ file })).problems, [], where);
  }
  stops.sort((one, other) => one - other);
  return {
    ...counts,
    stopped: stops.length,
    medianStopMs: stops[stops.length >> 1] ?? 0,
    longestStopMs: stops.at(-1) ?? 0,
  };
}

/** Starts a save, kills it as soon as the VM is seen stopped, and waits until it runs again. */
export async function killWhileStopped(vm: TestVm, file: string, args: readonly string[]): Promise<void> {
  await killStopped(vm, file, args, () => {});
  await until(async () => (await vm.status()) === 'running', 'the VM does not run');
  await untilCleanedUp(file, 'killed while the VM was stopped');
  await vm.console.waitForCounterAbove(vm.console.counter + 2);
}

/** The same, with the guard killed before: nobody is left to put anything right. */
export async function killWithGuard(vm: TestVm, file: string, args: readonly string[]): Promise<void> {
  const records = path.join(path.dirname(file), 'mapram');
  await killStopped(vm, file, args, () => {
    const guards = processesWith(`${records}/`);
    assert.equal(guards.length, 1, 'the guard is there');
    for (const guard of guards) process.kill(guard, 'SIGKILL');
  });
}

/** The same, while two others wait at the monitor for longer than any patience of the guard was. */
export async function killWithWaitingClients(
  vm: TestVm,
  file: string,
  args: readonly string[],
  waitingMs = WAITING_MS,
): Promise<void> {
  const others: Socket[] = [];
  await killStopped(vm, file, args, async () => {
    // One waits to be accepted; the other one, like the guard, finds the queue full, and tries again.
    for (let n = 0; n < 2; n++) others.push(await connectWhenPossible(vm.qmpPath));
  });
  await delay(waitingMs);
  for (const other of others) other.destroy();
  await untilRunning(vm, file);
}

/** The guard may have had to wait. */
export async function untilRunning(vm: TestVm, file: string): Promise<void> {
  const deadline = performance.now() + CLEANUP_MS;
  await until(async () => (await vm.status()) === 'running', 'the VM does not run', deadline);
  await untilCleanedUp(file, 'killed while others waited');
  await vm.console.waitForCounterAbove(vm.console.counter + 2);
}

const WAITING_MS = 7000;

/** Into the queue of a monitor, or as soon as there is room. */
export async function connectWhenPossible(path: string): Promise<Socket> {
  for (;;) {
    const socket = connect(path);
    const connected = await new Promise<boolean>((resolve) =>
      socket.once('connect', () => resolve(true)).once('error', () => resolve(false)),
    );
    socket.on('error', () => {});
    if (connected) return socket;
    await delay(20);
  }
}

/** Starts a save and kills it while the VM is stopped. @param before called when it can do nothing more, and is not dead yet */
export async function killStopped(
  vm: TestVm,
  file: string,
  args: readonly string[],
  before: () => void | Promise<void>,
): Promise<void> {
  const child = spawn(process.execPath, [CLI, 'save', vm.qmpPath, file, '--force', ...args], {
    env: { ...process.env, XDG_RUNTIME_DIR: path.dirname(file) },
    stdio: 'ignore',
  });
  const end = new Promise((resolve) => child.once('close', resolve));
  while ((await vm.status()) === 'running') assert.equal(child.exitCode, null, 'it was over too soon');
  // Whatever was asked of the VM must not go on while its guard is looked for.
  child.kill('SIGSTOP');
  await before();
  child.kill('SIGKILL');
  await end;
}

async function until(
  condition: () => Promise<boolean>,
  problem: string,
  deadline = performance.now() + RESCUE_MS,
): Promise<void> {
  while (!(await condition())) {
    if (performance.now() > deadline) assert.fail(problem);
    await delay(20);
  }
}

async function untilCleanedUp(file: string, where: string): Promise<void> {
  const folder = path.dirname(file);
  const deadline = performance.now() + CLEANUP_MS;
  for (let left = leftIn(folder); left.length > 0; left = leftIn(folder)) {
    if (performance.now() > deadline) assert.fail(`${left.join(', ')} left over, ${where}`);
    await delay(20);
  }
}

/** Part files, and records of saves; not drafts of records, which are nothing yet. */
function leftIn(folder: string): string[] {
  const records = path.join(folder, 'mapram');
  return [
    ...readdirSync(folder)
      .filter((name) => name.endsWith('.mapram-part'))
      .map((name) => path.join(folder, name)),
    ...(existsSync(records)
      ? readdirSync(records)
          .filter((name) => name.endsWith('.json'))
          .map((name) => path.join(records, name))
      : []),
  ];
}
