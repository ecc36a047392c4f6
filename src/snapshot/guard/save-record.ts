/**
 * What has to be put right should a save die with its VM stopped: one small file for each save that is under way.
 *
 * It is `ID.json` in a private folder, see record-folder.ts; mode 0600.
 *
 * The process that saves holds a lock on the file and removes it when the VM is in its final state. A file that nobody
 * has locked belongs to a save that died: whoever gets its lock may put things right, once.
 */

import { randomUUID } from 'node:crypto';
import { constants, fstatSync, readdirSync } from 'node:fs';
import path from 'node:path';
import * as v from 'valibot';
import { tryLock } from '../../io/file/file-lock.js';
import { renameFile, unlinkFile } from '../../io/file/file-names.js';
import { closeFile, openFile } from '../../io/file/open-file.js';
import { hasErrno } from '../../io/system-error.js';
import { openAbandonedRecord } from './abandoned-record.js';
import { rewriteRecord } from './record-file.js';
import { readRecords, recordFolder, recordFolders } from './record-folder.js';

const VmSchema = v.object({
  /** Of its monitor; a path is absolute. */
  address: v.string(),
  /** Its process, where that is known. */
  pid: v.optional(v.number()),
  /** Its state before the save. */
  runState: v.string(),
  /**
   * Whether the save has stopped its guest (`paused`); one that is paused otherwise was paused by its owner. Stops that QEMU makes for its
   * migration have states of their own.
   */
  stopped: v.optional(v.boolean()),
  /** Its migration settings before the save. */
  capabilities: v.record(v.string(), v.boolean()),
  parameters: v.record(v.string(), v.unknown()),
});

const RecordSchema = v.object({
  format: v.literal(1),
  /** What was being written, and under which name until complete. */
  file: v.string(),
  partPath: v.string(),
  /** Absent as long as the save has changed nothing about a VM. */
  vm: v.optional(VmSchema),
});

export type RecordedVm = v.InferOutput<typeof VmSchema>;
export type SaveRecord = v.InferOutput<typeof RecordSchema>;

/** Of a record that is being written. */
const DRAFT_SUFFIX = '.json.new';
/** A draft becomes a record at once, and is locked a moment after it was made: only an older one is nobody's. */
const DRAFT_MS = 60_000;

/** A record whose lock this process holds. */
export class HeldRecord implements Disposable {
  /** Of the file, in bytes. */
  #length: number;

  private constructor(
    readonly path: string,
    private written: SaveRecord,
    private fd: number,
  ) {
    this.#length = fstatSync(fd).size;
  }

  get record(): SaveRecord {
    return this.written;
  }

  /** Adds the VM, before it is touched. */
  addVm(vm: RecordedVm): void {
    this.#write({ ...this.written, vm });
  }

  /** The save is about to stop the guest, or it runs again. */
  noteStopped(stopped: boolean): void {
    const { vm } = this.written;
    if (vm !== undefined) this.#write({ ...this.written, vm: { ...vm, stopped } });
  }

  /** The VM is as it must be: whatever its owner does with it from now on is no trace of the save. */
  forgetVm(): void {
    const { vm: _, ...rest } = this.written;
    this.#write(rest);
  }

  #write(record: SaveRecord): void {
    this.#length = rewriteRecord(this.fd, record, this.#length);
    this.written = record;
  }

  /** Where the next record can be; its guard is there before it. */
  static newPath(): string {
    return path.join(recordFolder(), `${randomUUID()}.json`);
  }

  static create(record: SaveRecord, file = HeldRecord.newPath()): HeldRecord {
    const draft = `${file}.new`;
    const fd = openFile(
      draft,
      constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW,
    );
    const held = new HeldRecord(file, record, fd);
    try {
      tryLock(fd, 'exclusive');
      held.#write(record);
      renameFile(draft, file);
      return held;
    } catch (error) {
      held[Symbol.dispose]();
      remove(draft);
      throw error;
    }
  }

  /** The record of a save that died. Undefined for one that is under way, or was put right meanwhile. */
  static takeAbandoned(file: string): HeldRecord | undefined {
    const found = openAbandonedRecord(file, RecordSchema);
    return found && new HeldRecord(file, found.record, found.fd);
  }

  /** The VM is in its final state: nothing is left to be done. */
  remove(): void {
    try {
      remove(this.path);
    } finally {
      this[Symbol.dispose]();
    }
  }

  /** Lets go of the lock: if the record is still there, somebody else may act on it now. */
  [Symbol.dispose](): void {
    const { fd } = this;
    this.fd = -1;
    if (fd >= 0) closeFile(fd);
  }
}

/** What the records of saves say, of those under way and of those that died. */
export function savesOnRecord(): SaveRecord[] {
  return readRecords('.json', RecordSchema).map(({ record }) => record);
}

/** The records of saves that died, each locked by this process until disposed. */
export function takeAbandonedRecords(): HeldRecord[] {
  return recordFolders().flatMap(takeAbandonedIn);
}

function takeAbandonedIn(folder: string): HeldRecord[] {
  const names = readdirSync(folder);
  for (const name of names) if (name.endsWith(DRAFT_SUFFIX)) removeOldDraft(path.join(folder, name));
  return names
    .filter((name) => name.endsWith('.json'))
    .flatMap((name) => HeldRecord.takeAbandoned(path.join(folder, name)) ?? []);
}

/** A draft whose writer died before the VM was touched. */
function removeOldDraft(draft: string): void {
  let fd: number;
  try {
    fd = openFile(draft, constants.O_RDWR | constants.O_NOFOLLOW);
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ELOOP')) return;
    throw error;
  }
  try {
    const age = Date.now() - fstatSync(fd).mtimeMs;
    if (age > DRAFT_MS && tryLock(fd, 'exclusive')) remove(draft);
  } finally {
    closeFile(fd);
  }
}

function remove(file: string): void {
  try {
    unlinkFile(file);
  } catch (error) {
    if (!hasErrno(error, 'ENOENT')) throw error;
  }
}
