/**
 * Descriptors that clients passed in: named ones (`getfd`) and sets of them (`add-fd`), from which
 * `/dev/fdset/N` is opened.
 *
 * Every descriptor in here is owned: it is closed when it is removed, and all are with `close()`.
 */

import { closeSync, constants } from 'node:fs';
import { descriptorFlags, descriptorLimit, duplicateDescriptor } from '../io/descriptor.js';
import { O_DIRECT } from '../io/file/direct-io-support.js';
import type { FdsetInfo } from '../qmp/qmp-commands.js';
import { CommandError } from './command-error.js';

interface SetMember {
  /** The number clients know it by. */
  readonly name: number;
  readonly fd: number;
  readonly opaque?: string;
}

const FDSET_PATH = '/dev/fdset/';
/** The flags of an open that must match those of the descriptor exactly. */
const MATCHED_FLAGS = constants.O_RDONLY | constants.O_WRONLY | constants.O_RDWR | O_DIRECT;
/** Most descriptors that clients may leave here, and which part of those that this process may have: the others serve it. */
const MAX_DESCRIPTORS = 4096;
const PART_FOR_CLIENTS = 4;

export class FdSets {
  readonly #sets = new Map<number, SetMember[]>();
  readonly #named = new Map<string, number>();
  readonly #most: number;

  /** @param most how many descriptors clients may leave here, sets and named ones together */
  constructor(most = Math.min(MAX_DESCRIPTORS, Math.floor(descriptorLimit() / PART_FOR_CLIENTS))) {
    this.#most = most;
  }

  /** @throws CommandError when no more descriptors may be left here */
  assertRoom(): void {
    if (this.#count() < this.#most) return;
    throw new CommandError(
      `${this.#most} file descriptors were passed and are still here, and there may be no more: remove some`,
    );
  }

  /**
   * Adds `fd`, which belongs to the set from now on. `assertRoom` comes before it.
   *
   * @param id the lowest free one when absent
   * @param name the number to show; `fd` itself when absent
   */
  add(fd: number, id?: number, opaque?: string, name = fd): { 'fdset-id': number; fd: number } {
    const setId = id ?? this.#lowestFreeId();
    const set = this.#sets.get(setId) ?? [];
    set.unshift(opaque === undefined ? { name, fd } : { name, fd, opaque });
    this.#sets.set(setId, set);
    return { 'fdset-id': setId, fd: name };
  }

  /** Removes one descriptor, or a whole set. */
  remove(id: number, name?: number): void {
    const set = this.#sets.get(id);
    const members = set?.filter((member) => name === undefined || member.name === name) ?? [];
    if (set === undefined || members.length === 0) {
      throw notFound(name === undefined ? `fdset-id:${id}` : `fdset-id:${id}, fd:${name}`);
    }
    for (const { fd } of members) closeSync(fd);
    const rest = set.filter((member) => !members.includes(member));
    if (rest.length > 0) this.#sets.set(id, rest);
    else this.#sets.delete(id);
  }

  query(): FdsetInfo[] {
    return [...this.#sets]
      .sort(([a], [b]) => a - b)
      .map(([id, members]) => ({
        'fdset-id': id,
        fds: members.map(({ name, opaque }) => (opaque === undefined ? { fd: name } : { fd: name, opaque })),
      }));
  }

  /** The number of the set that `filename` means, if it is one in /dev/fdset. */
  static numberIn(filename: string): number | undefined {
    const [, digits] = /^\/dev\/fdset\/(\d{1,15})$/.exec(filename) ?? [];
    return digits === undefined ? undefined : Number(digits);
  }

  /** Whether the set, or this descriptor in it, is here. */
  has(id: number, name?: number): boolean {
    const set = this.#sets.get(id);
    return set !== undefined && (name === undefined || set.some((member) => member.name === name));
  }

  hasNamed(name: string): boolean {
    return this.#named.has(name);
  }

  /** Keeps `fd` under a name; one that was there before is closed. */
  setNamed(name: string, fd: number): void {
    const before = this.#named.get(name);
    if (before !== undefined) closeSync(before);
    this.#named.set(name, fd);
  }

  closeNamed(name: string): void {
    closeSync(this.takeNamed(name));
  }

  /** Hands a named descriptor over to the caller. */
  takeNamed(name: string): number {
    const fd = this.#named.get(name);
    if (fd === undefined) throw notFound(name);
    this.#named.delete(name);
    return fd;
  }

  /** As `takeNamed`; a migration is told in other words when there is none. */
  takeForMigration(name: string): number {
    if (!this.#named.has(name)) throw new CommandError(`File descriptor named '${name}' has not been found`);
    return this.takeNamed(name);
  }

  /**
   * Opens `/dev/fdset/N` as QEMU does: a duplicate of the first descriptor in the set whose access mode and O_DIRECT
   * bit both equal the wanted ones. A read-write descriptor matches neither reading nor writing.
   *
   * @param flags as for open(2); those beyond access mode and O_DIRECT appear in the error text only
   * @returns undefined when `filename` is not in /dev/fdset
   */
  open(filename: string, flags: number): number | undefined {
    if (!filename.startsWith(FDSET_PATH)) return undefined;
    const id = FdSets.numberIn(filename);
    if (id === undefined) throw new CommandError(`Could not parse fdset ${filename}`);
    const set = this.#sets.get(id);
    if (set === undefined) throw new CommandError(`Failed to find fdset ${filename}`);
    const match = set.find(({ fd }) => (descriptorFlags(fd) & MATCHED_FLAGS) === (flags & MATCHED_FLAGS));
    if (match === undefined) {
      throw new CommandError(`Failed to find file descriptor with matching flags=0x${flags.toString(16)}`);
    }
    return duplicateDescriptor(match.fd);
  }

  /** Removes all sets, not the named descriptors. Returns their numbers. */
  clearSets(): number[] {
    const ids = [...this.#sets.keys()];
    for (const id of ids) this.remove(id);
    return ids;
  }

  /** Closes all descriptors. */
  close(): void {
    this.clearSets();
    for (const fd of this.#named.values()) closeSync(fd);
    this.#named.clear();
  }

  #count(): number {
    return [...this.#sets.values()].reduce((count, members) => count + members.length, this.#named.size);
  }

  #lowestFreeId(): number {
    let id = 0;
    while (this.#sets.has(id)) id++;
    return id;
  }
}

function notFound(name: string): CommandError {
  return new CommandError(`File descriptor named '${name}' not found`);
}
