/**
 * Resumes a VM from a mapped-ram file in the time that QEMU needs to start: what `mapram resume` does.
 *
 * The file itself becomes the RAM, mapped copy-on-write, so the time does not depend on how large it is, and the file
 * stays byte for byte as it was.
 */

import { randomBytes } from 'node:crypto';
import os from 'node:os';
import path from 'node:path';
import * as v from 'valibot';
import { assertOptions, flag, oneOf, optionsOf, path as socketPath } from '../../checked-options.js';
import { defined } from '../../defined.js';
import { assertSocketsFree } from '../../launch/listeners.js';
import { qmpSockets, withQmpSocket } from '../../launch/qmp-sockets.js';
import { runOperation } from '../files/operation.js';
import { VmGuard } from '../guard/vm-guard.js';
import {
  BackgroundCheck,
  type BackgroundCheckOptions,
  backgroundCheckEntries,
} from '../verify/background-check.js';
import { clockSetter, savedAt } from './guest-clock.js';
import { FORMER_LAUNCH_NAMES, type LaunchOptions, launchEntries } from './launch-options.js';
import { commandWords, type LaunchPlan, planLaunch } from './launch-plan.js';
import type { LaunchTrust } from './recorded-launch.js';
import { ResumeSource } from './resume-source.js';
import { ResumedVm } from './resumed-vm.js';
import { WaitingVm } from './waiting-vm.js';

export interface ResumeOptions extends LaunchOptions, BackgroundCheckOptions {
  /** Where QEMU's monitor is to listen; by default where it listened when the VM was saved. */
  qmp?: string | undefined;
  /**
   * `inherit` gives QEMU this process' terminal, for serial ports on standard input and output; `detached`, the default, keeps
   * it out of reach of ^C.
   */
  terminal?: 'inherit' | 'detached' | undefined;
  /** Set the guest's clock to the host's time through its QEMU guest agent, once it runs; a warning says where that fails. */
  setClock?: boolean | undefined;
}

const ResumeOptionsSchema = optionsOf<ResumeOptions>(
  {
    ...launchEntries,
    ...backgroundCheckEntries,
    qmp: v.optional(socketPath),
    terminal: v.optional(oneOf(['inherit', 'detached'])),
    setClock: flag,
  },
  FORMER_LAUNCH_NAMES,
);

/** What would be started. */
export interface ResumePlan {
  /** Program and arguments. QEMU also gets a connection to mapram's own monitor, which is not shown. */
  command: string[];
  workingDirectory: string;
  /** Absolute path of the QMP socket. */
  qmp: string;
  /** Whether it would be run unasked, and why not. */
  trust: LaunchTrust;
  /** As option `trust`: nothing but this plan is run, and only from the file as it is now. */
  fingerprint: string;
  warnings: string[];
}

/**
 * Starts a QEMU with the file as its memory and gives it the device state.
 *
 * With `verify` the guest runs before all of its memory has been held against its checksums: `verified` of the result tells.
 *
 * @throws MapramError `VM` when the command line does not fit the file, a disk has changed or QEMU refuses, with its own words;
 *   `UNTRUSTED` for a recorded command line that nobody has agreed to; `BUSY` when a socket is in use; `USAGE` when there is none; `FORMAT` for a bad file. No process is left behind
 */
export async function resume(options: ResumeOptions): Promise<ResumedVm> {
  assertOptions('resume', ResumeOptionsSchema, options);
  return runOperation(`resuming ${options.file}`, options.file, options, resumeChecked);
}

async function resumeChecked(options: ResumeOptions): Promise<ResumedVm> {
  const startedAt = performance.now();
  const { signal, terminal = 'detached', cont = false } = options;
  signal?.throwIfAborted();
  await using source = await ResumeSource.open(options.file, options);
  const { plan, qmp, made } = withMonitor(await planLaunch(source, options, 'run', false), options);
  const signed = options.requireSignature === undefined ? undefined : await source.assertVerified(options);
  await assertSocketsFree(plan.options, plan.workingDirectory);
  using guard = VmGuard.start(source.file);
  const start = WaitingVm.start(
    source,
    { ...plan, terminal, guarded: guard.next({ qmp, ...defined({ made }) }) },
    options,
  );
  const warnings = plan.warnings();
  // QEMU takes its time to start; meanwhile its state is made and held against what was saved, and what it will read is read ahead.
  const prefetched = source.prefetch(options.prefetch, signal);
  const prepare = source.prepareState(plan.mapped);
  const intact = signed ?? source.assertVerified(options);
  const [started, prepared, checked] = await Promise.allSettled([start, prepare, intact]);
  try {
    for (const warning of warnings) options.onWarning?.(warning);
    fulfilledValue(checked);
    const waiting = fulfilledValue(started);
    const state = fulfilledValue(prepared);
    const setClock = options.setClock
      ? await clockSetter(waiting.vm, waiting.process.pid, options.onWarning)
      : undefined;
    const { runState, loadTimeMs, checkedPages } = await waiting.load(state, {
      cont,
      ...defined({ signal }),
    });
    const totalTimeMs = performance.now() - startedAt;
    const clockSet = await setClock?.(runState, signal);
    const saved = savedAt(source.image);
    const facts = {
      pid: waiting.process.pid,
      qmp,
      loadTimeMs,
      totalTimeMs,
      runState,
      ...defined({ savedAt: saved, clockSet, checkedPages }),
    };
    const check = await BackgroundCheck.after(source, [waiting.vm], options, signed);
    const watch = source.watch((message) => options.onWarning?.(message));
    return ResumedVm.of({ facts, waiting, file: source.file, prefetched, watch, check });
  } catch (error) {
    if (started.status === 'fulfilled') await started.value[Symbol.asyncDispose]();
    throw error;
  } finally {
    if (prepared.status === 'fulfilled') prepared.value[Symbol.dispose]();
  }
}

/** What `resume` would start, with every check that it makes before but whether it may be run: `trust` tells. */
export async function planResume(options: ResumeOptions): Promise<ResumePlan> {
  assertOptions('planResume', ResumeOptionsSchema, options);
  return runOperation(`planning to resume ${options.file}`, options.file, options, planChecked);
}

async function planChecked(options: ResumeOptions): Promise<ResumePlan> {
  options.signal?.throwIfAborted();
  await using source = await ResumeSource.open(options.file, options);
  await source.assertVerified(options);
  const { plan, qmp } = withMonitor(await planLaunch(source, options, 'show', false), options);
  return {
    command: commandWords(plan),
    workingDirectory: plan.workingDirectory,
    qmp,
    trust: plan.trust,
    fingerprint: plan.fingerprint,
    warnings: plan.warnings(),
  };
}

/** `made`: the socket, where nobody has said where it is to be. */
function withMonitor(
  plan: LaunchPlan,
  options: ResumeOptions,
): { plan: LaunchPlan; qmp: string; made?: string } {
  const [recorded] = qmpSockets(plan.options);
  if (options.qmp === undefined && recorded !== undefined) {
    return { plan, qmp: path.resolve(plan.workingDirectory, recorded) };
  }
  const qmp = path.resolve(
    options.qmp ?? path.join(os.tmpdir(), `mapram-${randomBytes(6).toString('hex')}.qmp`),
  );
  const rewritten = { ...plan, options: withQmpSocket(plan.options, qmp) };
  return { plan: rewritten, qmp, ...defined({ made: options.qmp === undefined ? qmp : undefined }) };
}

function fulfilledValue<T>(result: PromiseSettledResult<T>): T {
  if (result.status === 'rejected') throw result.reason;
  return result.value;
}
