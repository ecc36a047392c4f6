/**
 * VMs that end with the process that started them: one small file for each resume, fork or pool that is under way.
 *
 * ```
 * FOLDER/ID.vms        see record-folder.ts; 0600
 * MAPRAM_VM=ID/N       in the environment of the Nth VM and of what it starts
 * ```
 *
 * The process holds a lock on the file and removes it when no VM is its any more. A file that nobody has locked belongs to a process
 * that died.
 */

import { randomUUID } from 'node:crypto';
import { constants, readdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import * as v from 'valibot';
import { tryLock } from '../../io/file/file-lock.js';
import { unlinkFile } from '../../io/file/file-names.js';
import { closeFile, openFile } from '../../io/file/open-file.js';
import { writeFully } from '../../io/file/positional-io.js';
import { ProcessHandle } from '../../io/process/process-handle.js';
import { hasErrno } from '../../io/system-error.js';
import { writeJson } from '../../json/json-writer.js';
import { type MarkedProcess, markedProcesses } from '../../launch/marked-processes.js';
import { openAbandonedRecord } from './abandoned-record.js';
import { recordFolder, recordFolders } from './record-folder.js';

const RecordSchema = v.object({
  format: v.literal(1),
  /** What the VMs were started from. */
  file: v.string(),
  /** What was made for them, and goes with them. */
  folder: v.optional(v.string()),
  /** Numbers of VMs that were left to themselves. */
  left: v.array(v.number()),
});

type Written = v.InferOutput<typeof RecordSchema>;

export const VM_RECORD_SUFFIX = '.vms';
/** Between asking a QEMU to end and killing it. */
const GRACE_MS = 5000;
const POLL_MS = 50;

/** A record whose lock this process holds. */
export class VmRecord implements Disposable {
  private constructor(
    readonly path: string,
    private written: Written,
    private fd: number,
  ) {}

  /** Where the next record can be; its guard is there before it. */
  static newPath(): string {
    return path.join(recordFolder(), `${randomUUID()}${VM_RECORD_SUFFIX}`);
  }

  static create(file: string, written: Omit<Written, 'format' | 'left'>): VmRecord {
    const fd = openFile(file, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW);
    const record = new VmRecord(file, { format: 1, ...written, left: [] }, fd);
    try {
      tryLock(fd, 'exclusive');
      record.#write();
      return record;
    } catch (error) {
      record.remove();
      throw error;
    }
  }

  /** The record of a process that died. Undefined for one that lives, or was put right meanwhile. */
  static takeAbandoned(file: string): VmRecord | undefined {
    const found = openAbandonedRecord(file, RecordSchema);
    return found && new VmRecord(file, found.record, found.fd);
  }

  /** Of the VMs' file. */
  get file(): string {
    return this.written.file;
  }

  mark(vm: number): string {
    return `${this.#id}/${vm}`;
  }

  /** That VM, and its folder, stay. */
  leave(vm: number): void {
    this.written.left.push(vm);
    this.#write();
  }

  /** The processes that are to end with the process that started them. */
  processes(): MarkedProcess[] {
    const left = new Set(this.written.left.map((vm) => this.mark(vm)));
    return markedProcesses(`${this.#id}/`).filter(({ mark }) => !left.has(mark));
  }

  /** Ends the VMs and removes the folder that was made for them. */
  async putRight(): Promise<void> {
    // One that was only just forked gets its environment a moment later.
    for (let found = this.processes(); found.length > 0; found = this.processes()) {
      await Promise.all(found.map(({ pid }) => end(pid)));
    }
    const { folder, left } = this.written;
    if (folder !== undefined && left.length === 0) rmSync(folder, { recursive: true, force: true });
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

  get #id(): string {
    return path.basename(this.path, VM_RECORD_SUFFIX);
  }

  /** It only grows. */
  #write(): void {
    writeFully(this.fd, Buffer.from(writeJson(this.written)), 0);
  }
}

/** The records of processes that died, each locked by this process until disposed. */
export function takeAbandonedVms(): VmRecord[] {
  return recordFolders().flatMap((folder) =>
    readdirSync(folder)
      .filter((name) => name.endsWith(VM_RECORD_SUFFIX))
      .flatMap((name) => VmRecord.takeAbandoned(path.join(folder, name)) ?? []),
  );
}

async function end(pid: number): Promise<void> {
  try {
    using handle = ProcessHandle.open(pid);
    handle.signal('SIGTERM');
    for (let waited = 0; handle.alive; waited += POLL_MS) {
      if (waited >= GRACE_MS) handle.signal('SIGKILL');
      await delay(POLL_MS);
    }
  } catch {
    // It has ended.
  }
}
