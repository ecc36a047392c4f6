/**
 * VMs that this user has started from snapshots: one small file for each resume, fork or pool.
 *
 * ```
 * FOLDER/ID.vms        see record-folder.ts; 0600
 * MAPRAM_VM=ID/N       in the environment of the Nth VM and of what it starts
 * ```
 *
 * The process that starts them holds a lock on the file while VMs are to end with it. A file that nobody has locked and that lists such
 * VMs belongs to a process that died. Of VMs that were left to themselves the file says what was made for them, so that it can go when they
 * have ended; without any it is removed.
 */

import { randomUUID } from 'node:crypto';
import { constants, existsSync, fstatSync, readdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import * as v from 'valibot';
import { tryLock } from '../../io/file/file-lock.js';
import { unlinkFile } from '../../io/file/file-names.js';
import { closeFile, openFile } from '../../io/file/open-file.js';
import { ProcessHandle } from '../../io/process/process-handle.js';
import { hasErrno } from '../../io/system-error.js';
import { type MarkedProcess, markedProcesses } from '../../launch/marked-processes.js';
import { openAbandonedRecord } from './abandoned-record.js';
import { rewriteRecord } from './record-file.js';
import { readRecords, recordFolder, recordFolders } from './record-folder.js';

const VmSchema = v.object({
  /** N in its mark. */
  number: v.number(),
  /** Absolute path of its QMP socket. */
  qmp: v.string(),
  /** A folder or a socket that was made for it, and goes with it. */
  made: v.optional(v.string()),
  /** Whether it was left to itself: it does not end with the process that started it. */
  left: v.boolean(),
});

const RecordSchema = v.object({
  format: v.literal(2),
  /** What the VMs were started from, an absolute path. */
  file: v.string(),
  /** What was made for all of them, and goes with the last. */
  folder: v.optional(v.string()),
  vms: v.array(VmSchema),
});

export type StartedVm = v.InferOutput<typeof VmSchema>;
export type VmRecordContents = v.InferOutput<typeof RecordSchema>;

export const VM_RECORD_SUFFIX = '.vms';
/** Between asking a QEMU to end and killing it. */
const GRACE_MS = 5000;
const POLL_MS = 50;

/** A record whose lock this process holds. */
export class VmRecord implements Disposable {
  /** Of the file, in bytes. */
  #length: number;

  private constructor(
    readonly path: string,
    private written: VmRecordContents,
    private fd: number,
  ) {
    this.#length = fstatSync(fd).size;
  }

  /** Where the next record can be; its guard is there before it. */
  static newPath(): string {
    return path.join(recordFolder(), `${randomUUID()}${VM_RECORD_SUFFIX}`);
  }

  static create(file: string, written: Omit<VmRecordContents, 'format' | 'vms'>): VmRecord {
    const fd = openFile(file, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW);
    const record = new VmRecord(file, { format: 2, ...written, vms: [] }, fd);
    try {
      tryLock(fd, 'exclusive');
      record.#write();
      return record;
    } catch (error) {
      record.remove();
      throw error;
    }
  }

  /** The record of a process that ended. Undefined for one that lives, or whose record has gone meanwhile. */
  static takeAbandoned(file: string): VmRecord | undefined {
    const found = openAbandonedRecord(file, RecordSchema);
    return found && new VmRecord(file, found.record, found.fd);
  }

  /** Of the VMs' file. */
  get file(): string {
    return this.written.file;
  }

  get vms(): readonly StartedVm[] {
    return this.written.vms;
  }

  mark(vm: number): string {
    return markOf(this.path, vm);
  }

  /** A VM that is about to be started, or has changed. */
  put(vm: StartedVm): void {
    this.#setVms([...this.written.vms.filter(({ number }) => number !== vm.number), vm]);
  }

  /** That VM, and what was made for it, stay. */
  leave(vm: number): void {
    const started = this.written.vms.find(({ number }) => number === vm);
    if (started !== undefined) this.put({ ...started, left: true });
  }

  /** That VM has ended, and what was made for it is seen to. */
  forget(vm: number): void {
    this.#setVms(this.written.vms.filter(({ number }) => number !== vm));
  }

  /** The processes that are to end with the process that started them. */
  processes(): MarkedProcess[] {
    const left = new Set(this.written.vms.flatMap((vm) => (vm.left ? [this.mark(vm.number)] : [])));
    return markedProcesses(markOf(this.path)).filter(({ mark }) => !left.has(mark));
  }

  /** What was made for VMs that have ended, and is still there. */
  leftOvers(): string[] {
    return this.#ended().flatMap(({ made }) => (made !== undefined && existsSync(made) ? [made] : []));
  }

  /** Ends the VMs that were to end, removes what was made for them, and the record where no other VM needs it. */
  async putRight(): Promise<void> {
    await this.endVms();
    this.settle();
  }

  /** Ends the VMs that were to end, and removes what was made for them. */
  async endVms(): Promise<void> {
    // One that was only just forked gets its environment a moment later.
    for (let found = this.processes(); found.length > 0; found = this.processes()) {
      await Promise.all(found.map(({ pid }) => endProcess(pid)));
    }
    const { folder, vms } = this.written;
    for (const { left, made } of vms) if (!left && made !== undefined) removeMade(made);
    if (folder !== undefined && !vms.some(({ left }) => left)) removeMade(folder);
    this.#setVms(vms.filter(({ left }) => left));
  }

  /**
   * Forgets VMs that have ended.
   *
   * @param fate of what was made for such a VM: it goes, or becomes its owner's; `stay` keeps it on record as long as it is there
   */
  dropEnded(fate: (vm: StartedVm) => 'remove' | 'release' | 'stay' = () => 'stay'): void {
    for (const vm of this.#ended()) {
      const { made } = vm;
      const decided = fate(vm);
      if (made !== undefined && decided === 'remove') removeMade(made);
      if (decided === 'release' || made === undefined || !existsSync(made)) this.forget(vm.number);
    }
    this.settle();
  }

  #ended(): StartedVm[] {
    const running = new Set(markedProcesses(markOf(this.path)).map(({ mark }) => mark));
    return this.written.vms.filter(({ number }) => !running.has(this.mark(number)));
  }

  /** No VM is this process' own any more: the record stays for those that were left to themselves. */
  settle(): void {
    if (this.written.vms.length > 0) {
      this[Symbol.dispose]();
      return;
    }
    const { folder } = this.written;
    if (folder !== undefined) removeIfEmpty(folder);
    this.remove();
  }

  remove(): void {
    try {
      unlinkFile(this.path);
    } catch (error) {
      if (!hasErrno(error, 'ENOENT')) throw error;
    } finally {
      this[Symbol.dispose]();
    }
  }

  [Symbol.dispose](): void {
    const { fd } = this;
    this.fd = -1;
    if (fd >= 0) closeFile(fd);
  }

  #setVms(vms: StartedVm[]): void {
    this.written = { ...this.written, vms };
    this.#write();
  }

  #write(): void {
    this.#length = rewriteRecord(this.fd, this.written, this.#length);
  }
}

/** What the records say, those of processes that live included, each with its path. */
export function vmsOnRecord(): { path: string; record: VmRecordContents }[] {
  return readRecords(VM_RECORD_SUFFIX, RecordSchema);
}

/** The mark of the Nth VM of a record, or what the marks of all of them begin with. */
export function markOf(record: string, vm?: number): string {
  return `${path.basename(record, VM_RECORD_SUFFIX)}/${vm ?? ''}`;
}

/** The records of processes that have ended, each locked by this process until disposed. */
export function takeAbandonedVms(): VmRecord[] {
  return recordFolders().flatMap((folder) =>
    readdirSync(folder)
      .filter((name) => name.endsWith(VM_RECORD_SUFFIX))
      .flatMap((name) => VmRecord.takeAbandoned(path.join(folder, name)) ?? []),
  );
}

/** A folder with its contents, or a socket. */
export function removeMade(made: string): void {
  rmSync(made, { recursive: true, force: true });
}

function removeIfEmpty(folder: string): void {
  try {
    if (readdirSync(folder).length === 0) removeMade(folder);
  } catch (error) {
    if (!hasErrno(error, 'ENOENT', 'ENOTDIR')) throw error;
  }
}

/** Asks a process to end, and insists after 5 s. @returns the signal that ended it; undefined if it had ended already */
export async function endProcess(pid: number): Promise<'SIGTERM' | 'SIGKILL' | undefined> {
  try {
    using handle = ProcessHandle.open(pid);
    if (!handle.alive || !handle.signal('SIGTERM')) return undefined;
    let signal: 'SIGTERM' | 'SIGKILL' = 'SIGTERM';
    for (let waited = 0; handle.alive; waited += POLL_MS) {
      if (waited >= GRACE_MS) {
        signal = 'SIGKILL';
        handle.signal(signal);
      }
      await delay(POLL_MS);
    }
    return signal;
  } catch {
    return undefined;
  }
}
