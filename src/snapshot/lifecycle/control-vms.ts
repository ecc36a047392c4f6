/** Stops, continues and ends VMs: what `mapram stop`, `cont` and `quit` do. */

import { existsSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { signal as abortSignal, assertOptions, flag, optionsOf, text } from '../../checked-options.js';
import { defined } from '../../defined.js';
import { MapramError } from '../../errors.js';
import { QemuVm } from '../../guest/qemu/qemu-vm.js';
import { ProcessHandle } from '../../io/process/process-handle.js';
import type { Count } from '../../units.js';
import { endProcess, type StartedVm, VmRecord, vmsOnRecord } from '../guard/vm-record.js';
import { findVms } from './find-vms.js';
import type { ListedVm } from './list-vms.js';

export interface ControlOptions {
  /**
   * A QMP socket, `tcp:HOST:PORT`, or, of VMs that mapram has started, a process id, the folder of a clone or of several, or the file from
   * which they were started.
   */
  vm: string;
  signal?: AbortSignal | undefined;
}

export interface QuitOptions extends ControlOptions {
  /** Leave the folder of a clone, with its disks and logs. */
  keep?: boolean | undefined;
}

const controlEntries = { vm: text, signal: abortSignal };
const ControlOptionsSchema = optionsOf<ControlOptions>(controlEntries);
const QuitOptionsSchema = optionsOf<QuitOptions>({ ...controlEntries, keep: flag });

export interface ControlledVm {
  qmp: string;
  pid?: Count;
  runState: string;
}

export interface EndedVm {
  qmp: string;
  pid?: Count;
  /** `quit` where QEMU obeyed its monitor, else the signal that ended it. */
  by: 'quit' | 'SIGTERM' | 'SIGKILL';
  /** What was made for the VM and has gone with it. */
  removed?: string;
  /** What is still there because it was to be kept. */
  kept?: string;
}

/** A monitor that is in use or silent is waited for so long. */
const PATIENCE_MS = 10_000;
/** For a record that is in use. */
const MOST_TRIES = 50;
const PAUSE_MS = 20;

/** Stops the processors of the guests. @throws MapramError `BUSY` while a VM is saved; `MONITOR`, `QMP` */
export async function stopVms(options: ControlOptions): Promise<ControlledVm[]> {
  assertOptions('stopVms', ControlOptionsSchema, options);
  return await each('stopping', options, (vm) => vm.stop());
}

/** Lets the guests run. @throws as `stopVms` does */
export async function continueVms(options: ControlOptions): Promise<ControlledVm[]> {
  assertOptions('continueVms', ControlOptionsSchema, options);
  return await each('continuing', options, (vm) => vm.cont());
}

/**
 * Ends the VMs, as their power switch would, and removes what mapram made for them. One whose monitor does not answer is ended by signals
 * where mapram has started it.
 *
 * @throws MapramError `BUSY` while a VM is saved; `MONITOR` for a VM that mapram has not started and whose monitor does not answer
 */
export async function quitVms(options: QuitOptions): Promise<EndedVm[]> {
  assertOptions('quitVms', QuitOptionsSchema, options);
  const { vm: name, keep = false, signal } = options;
  const vms = await findVms('ending', name, signal);
  for (const vm of vms) refuseSaved('ending', vm);
  const ended = await Promise.all(vms.map((vm) => end(vm, keep, signal)));
  await forgetEnded(new Set(ended.map(({ qmp }) => qmp)), keep);
  return ended;
}

async function each(
  doing: string,
  { vm: name, signal }: ControlOptions,
  act: (vm: QemuVm) => Promise<void>,
): Promise<ControlledVm[]> {
  const vms = await findVms(doing, name, signal);
  for (const vm of vms) refuseSaved(doing, vm);
  return await Promise.all(
    vms.map(async ({ qmp, pid }) => {
      await using vm = await connect(qmp, signal);
      await act(vm);
      return { qmp, ...defined({ pid }), runState: await vm.runState() };
    }),
  );
}

function connect(qmp: string, signal: AbortSignal | undefined): Promise<QemuVm> {
  return QemuVm.connect(qmp, { timeoutMs: PATIENCE_MS, ...defined({ signal }) });
}

function refuseSaved(doing: string, { qmp, savingTo }: ListedVm): void {
  if (savingTo === undefined) return;
  throw new MapramError(
    'BUSY',
    `${doing} the VM at ${qmp}: it is being saved to ${savingTo}; wait for that, or cancel it first`,
    { path: qmp },
  );
}

async function end(
  { qmp, pid, made }: ListedVm,
  keep: boolean,
  signal: AbortSignal | undefined,
): Promise<EndedVm> {
  const by =
    (await quit(qmp, pid, signal)) ?? (pid === undefined ? undefined : await endProcess(pid)) ?? 'quit';
  const left =
    made === undefined || made === qmp || !existsSync(made) ? {} : keep ? { kept: made } : { removed: made };
  return { qmp, ...defined({ pid }), by, ...left };
}

/** @returns undefined where the monitor does not answer, and the process is to be ended by signals */
async function quit(
  qmp: string,
  pid: number | undefined,
  signal: AbortSignal | undefined,
): Promise<'quit' | undefined> {
  try {
    await using vm = await connect(qmp, signal);
    await vm.quit();
    // The caller sees to a QEMU that is still there.
    return pid !== undefined && isAlive(pid) ? undefined : 'quit';
  } catch (error) {
    signal?.throwIfAborted();
    if (pid === undefined || !(error instanceof MapramError)) throw error;
    return undefined;
  }
}

function isAlive(pid: number): boolean {
  try {
    using handle = ProcessHandle.open(pid);
    return handle.alive;
  } catch {
    return false;
  }
}

/** Of VMs that end with their mapram it is that one which does this. */
async function forgetEnded(sockets: ReadonlySet<string>, keep: boolean): Promise<void> {
  const isMeant = ({ qmp, left }: StartedVm) => left && sockets.has(qmp);
  for (const { path, record } of vmsOnRecord()) {
    if (!record.vms.some(isMeant)) continue;
    using held = await taken(path);
    held?.dropEnded((vm) => (isMeant(vm) ? (keep ? 'release' : 'remove') : 'stay'));
  }
}

/** Another command may just be looking at the record. Undefined for one that is still held: `mapram doctor` finds what is left. */
async function taken(path: string): Promise<VmRecord | undefined> {
  for (let tries = 0; tries < MOST_TRIES; tries++) {
    const held = VmRecord.takeAbandoned(path);
    if (held !== undefined || !existsSync(path)) return held;
    await delay(PAUSE_MS);
  }
  return undefined;
}
