/** Starts many VMs from one mapped-ram file at once: what `mapram fork` does. */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { MapramError } from '../errors.js';
import { hasErrno } from '../io/system-error.js';
import { cloneCommandLine } from '../launch/clone-command-line.js';
import { assertSocketsFree } from '../launch/listeners.js';
import {
  type ClonedDisk,
  copyOverlay,
  createOverlay,
  replaceDisks,
  writableDisks,
} from '../launch/overlays.js';
import type { QemuProcessOptions } from '../launch/qemu-process.js';
import { type LaunchOptions, type LaunchPlan, planLaunch } from './launch-plan.js';
import { ResumeSource } from './resume-source.js';
import { ResumedVm } from './resumed-vm.js';
import { WaitingVm } from './waiting-vm.js';

export interface ForkOptions extends LaunchOptions {
  /** How many clones. */
  count: number;
  /**
   * Where each clone gets a folder for its sockets, logs and disks: `clone-1`, `clone-2`, … By default a new folder for
   * temporary files.
   */
  directory?: string;
}

/** The clones. Disposing ends them all and removes their folders where `directory` was not given. */
export class ForkedVms implements AsyncDisposable {
  #detached = false;

  constructor(
    readonly vms: readonly ResumedVm[],
    /** Holds the folders of the clones. */
    readonly directory: string,
    /** From the call until all guests were there, in ms. */
    readonly totalTimeMs: number,
    private readonly temporary: boolean,
  ) {}

  /** Leaves all clones to themselves: this process may end, they go on. */
  async detach(): Promise<void> {
    this.#detached = true;
    await Promise.all(this.vms.map((vm) => vm.detach()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#detached) return;
    await Promise.all(this.vms.map((vm) => vm[Symbol.asyncDispose]()));
    if (this.temporary) rmSync(this.directory, { recursive: true, force: true });
  }
}

/** More QEMUs than this do not start at the same time: they would only wait for each other. */
const STARTING_AT_ONCE = 2 * os.availableParallelism();

/**
 * Starts `count` clones. All or none: when one fails, those that run are ended.
 *
 * @throws MapramError as `resume` does
 */
export async function fork(options: ForkOptions): Promise<ForkedVms> {
  const startedAt = performance.now();
  const { count, signal } = options;
  if (!Number.isInteger(count) || count < 1) {
    throw new MapramError('USAGE', `forking ${options.file}: ${count} is not a number of clones`);
  }
  signal?.throwIfAborted();
  await using source = await ResumeSource.open(options.file, options);
  const plan = planLaunch(source, options);
  const temporary = options.directory === undefined;
  const directory = path.resolve(options.directory ?? mkdtempSync(path.join(os.tmpdir(), 'mapram-fork-')));
  const folders: string[] = [];
  const running: ResumedVm[] = [];
  try {
    folders.push(...createFolders(directory, count));
    for (const warning of new Set([...plan.warnings, ...cloneWarnings(plan, directory)])) {
      options.onWarning?.(warning);
    }
    const disks = writableDisks(plan.options, plan.workingDirectory);
    const overlays = await createOverlays(disks, folders);
    using state = await source.prepareState(plan.mapped);
    // The first failure stops the others.
    const failure = new AbortController();
    const common = signal === undefined ? failure.signal : AbortSignal.any([signal, failure.signal]);
    const startOne = async (folder: string, index: number): Promise<ResumedVm> => {
      const cloneStartedAt = performance.now();
      const { options: cloned, qmp } = cloneCommandLine(
        replaceDisks(plan.options, disks, overlays[index] as string[]),
        folder,
      );
      const launch: QemuProcessOptions = {
        program: plan.program,
        options: cloned,
        workingDirectory: plan.workingDirectory,
        terminal: 'detached',
        errorLog: path.join(folder, 'qemu.log'),
      };
      await assertSocketsFree(cloned, plan.workingDirectory);
      const waiting = await WaitingVm.start(source, launch, common);
      try {
        const { runState, loadTimeMs } = await waiting.load(state, {
          cont: options.cont ?? false,
          signal: common,
        });
        const totalTimeMs = performance.now() - cloneStartedAt;
        return new ResumedVm({ pid: waiting.process.pid, qmp, loadTimeMs, totalTimeMs, runState }, waiting);
      } catch (error) {
        await waiting[Symbol.asyncDispose]();
        throw error;
      }
    };
    await inTurns(folders, STARTING_AT_ONCE, async (folder, index) => {
      try {
        running[index] = await startOne(folder, index);
      } catch (error) {
        failure.abort(error);
        throw error;
      }
    });
    return new ForkedVms(running, directory, performance.now() - startedAt, temporary);
  } catch (error) {
    await Promise.all(running.map((vm) => vm[Symbol.asyncDispose]()));
    for (const folder of temporary ? [directory] : folders) rmSync(folder, { recursive: true, force: true });
    throw error;
  }
}

/** `count` new folders `clone-N` in `directory`, with the lowest numbers that are free. */
function createFolders(directory: string, count: number): string[] {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const folders: string[] = [];
  for (let n = 1; folders.length < count; n++) {
    const folder = path.join(directory, `clone-${n}`);
    try {
      mkdirSync(folder, { mode: 0o700 });
      folders.push(folder);
    } catch (error) {
      if (!hasErrno(error, 'EEXIST')) throw error;
    }
  }
  return folders;
}

function cloneWarnings(plan: LaunchPlan, directory: string): string[] {
  const { warnings } = cloneCommandLine(plan.options, directory);
  if (!plan.generationRenewed) {
    warnings.push(
      'the machine has no vmgenid device, so the guests do not notice that they are copies: they share random numbers, keys made from now on included; start the VM with -device vmgenid before it is saved',
    );
  }
  return warnings;
}

/** For each folder the overlays of all disks. The first is made by qemu-img, the others are copies of it. */
async function createOverlays(disks: readonly ClonedDisk[], folders: readonly string[]): Promise<string[][]> {
  const overlays = folders.map((folder) => disks.map((_, index) => path.join(folder, `disk${index}.qcow2`)));
  const [first = [], ...others] = overlays;
  await Promise.all(disks.map((disk, index) => createOverlay(disk, first[index] as string)));
  await inTurns(others, STARTING_AT_ONCE, async (files) => {
    for (const [index, file] of files.entries()) await copyOverlay(first[index] as string, file);
  });
  return overlays;
}

/** Runs `work` for each item, at most `limit` at a time. Fails with the first failure once all that were begun have ended. */
async function inTurns<T>(
  items: readonly T[],
  limit: number,
  work: (item: T, index: number) => Promise<void>,
): Promise<void> {
  let next = 0;
  let failed: { error: unknown } | undefined;
  const worker = async () => {
    while (next < items.length && failed === undefined) {
      const index = next++;
      try {
        await work(items[index] as T, index);
      } catch (error) {
        failed ??= { error };
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, worker));
  if (failed !== undefined) throw failed.error;
}
