/** The VMs that this user's mapram has started or is saving: what `mapram ps` shows. */

import path from 'node:path';
import { signal as abortSignal, assertOptions, flag, optionsOf } from '../../checked-options.js';
import { defined } from '../../defined.js';
import { MapramError } from '../../errors.js';
import { QemuVm } from '../../guest/qemu/qemu-vm.js';
import { privateBytes, processAge } from '../../io/process/process-usage.js';
import { markedProcesses } from '../../launch/marked-processes.js';
import type { Bytes, Count, Milliseconds } from '../../units.js';
import { savesOnRecord } from '../guard/save-record.js';
import { markOf, type StartedVm, vmsOnRecord } from '../guard/vm-record.js';

/** A VM that mapram has started from a file, or is saving. */
export interface ListedVm {
  /** Absolute path of its QMP socket, or `tcp:HOST:PORT`. */
  qmp: string;
  /** Its process, where that is known. */
  pid?: Count;
  /** What it was started from, an absolute path; absent for a VM that mapram only saves. */
  file?: string;
  /** The file that it is being saved to. */
  savingTo?: string;
  /** Whether it ends with the mapram that started it; absent for a VM that mapram only saves. */
  detached?: boolean;
  /** What was made for it alone and goes with it: a clone's folder, or its socket. */
  made?: string;
  /** Since its process was started. */
  ageMs?: Milliseconds;
  /** Memory that is its own, in bytes; absent where its process belongs to another user. */
  privateBytes?: Bytes;
  /** As QEMU says; absent while its monitor is in use. */
  runState?: string;
}

export interface ListVmsOptions {
  /** Whether to ask each VM for its run state; true by default. */
  ask?: boolean | undefined;
  signal?: AbortSignal | undefined;
}

/** A monitor that another client uses is waited for so long. */
const ASK_MS = 1_000;

/** The VMs in the order in which they were started, the oldest first. */
export async function listVms(options: ListVmsOptions = {}): Promise<ListedVm[]> {
  assertOptions('listVms', optionsOf<ListVmsOptions>({ ask: flag, signal: abortSignal }), options);
  const { ask = true, signal } = options;
  const processes = processesByMark();
  const vms = vmsOnRecord().flatMap(({ path: record, record: { file, vms } }) =>
    vms.flatMap((vm) => startedVm(file, vm, processes.get(markOf(record, vm.number))) ?? []),
  );
  for (const { file, vm } of savesOnRecord()) {
    if (vm === undefined) continue;
    const known = vms.find(({ qmp, pid }) => qmp === vm.address || (pid !== undefined && pid === vm.pid));
    if (known !== undefined) known.savingTo = file;
    else if (isThere(vm.pid)) vms.push({ qmp: vm.address, savingTo: file, ...usage(vm.pid) });
  }
  vms.sort((a, b) => (b.ageMs ?? 0) - (a.ageMs ?? 0) || a.qmp.localeCompare(b.qmp));
  if (ask) await Promise.all(vms.map((vm) => askRunState(vm, signal)));
  return vms;
}

function startedVm(
  file: string,
  { qmp, made, left }: StartedVm,
  pid: number | undefined,
): ListedVm | undefined {
  if (pid === undefined) return undefined;
  return { qmp, file, detached: left, ...defined({ made }), ...usage(pid) };
}

/** Without a process nothing contradicts the record. */
function isThere(pid: number | undefined): boolean {
  return pid === undefined || processAge(pid) !== undefined;
}

function usage(pid: number | undefined): Pick<ListedVm, 'pid' | 'ageMs' | 'privateBytes'> {
  if (pid === undefined) return {};
  return { pid, ...defined({ ageMs: processAge(pid)?.ageMs, privateBytes: privateBytes(pid) }) };
}

/** Of the processes with one mark, the one that the others were started by. */
function processesByMark(): Map<string, number> {
  const marked = markedProcesses('');
  const pids = new Set(marked.map(({ pid }) => pid));
  const first = new Map<string, number>();
  for (const { pid, mark } of marked) {
    const parent = processAge(pid)?.parent;
    if (parent !== undefined && !pids.has(parent)) first.set(mark, pid);
  }
  return first;
}

async function askRunState(vm: ListedVm, signal: AbortSignal | undefined): Promise<void> {
  if (vm.savingTo !== undefined) return;
  try {
    await using connected = await QemuVm.connect(vm.qmp, { timeoutMs: ASK_MS, ...defined({ signal }) });
    vm.runState = await connected.runState();
  } catch (error) {
    signal?.throwIfAborted();
    if (!(error instanceof MapramError)) throw error;
  }
}

/** The folder of a clone; undefined for a VM that was resumed without one. */
export function folderOf({ made, qmp }: ListedVm): string | undefined {
  return made === undefined || made === qmp ? undefined : path.resolve(made);
}
