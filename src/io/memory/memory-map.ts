/**
 * Files mapped into memory, seen through Buffers.
 *
 * Rules that the classes below keep, because breaking them ends the process instead of throwing:
 * - a view is at most 1 GiB (Node 20 aborts above 4 GiB), so a mapping is a row of windows;
 * - a Buffer that outlives `close` must not fault: closing first puts anonymous memory over the range and gives the
 *   addresses back only when the last window has been collected;
 * - one thread owns the mapping; others attach to its address and must have ended before it is closed (a worker's
 *   end would not unmap anything);
 * - pages beyond the end of the file fault with SIGBUS, so lengths are checked before mapping; of a file that others may cut short
 *   only the kernel touches pages, which gives EFAULT.
 */

import { fstatSync } from 'node:fs';
import { defined } from '../../defined.js';
import { errorReason, MapramError } from '../../errors.js';
import { admit } from '../faults.js';
import { native } from '../native.js';
import { hasErrno } from '../system-error.js';

const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 1;
const MAP_PRIVATE = 2;
const MAP_FIXED = 0x10;
const MAP_ANONYMOUS = 0x20;
const MAP_NORESERVE = 0x4000;
const MADV_DONTNEED = 4;
const MADV_POPULATE_READ = 22;

/** Bytes of one window; ranges that are asked for must not cross a multiple of it. */
export const WINDOW_BYTES = 1024 ** 3;

/** A file that memory is made of: tmpfs, hugetlbfs, memfd or any regular file. */
export interface MemoryFile {
  /** Stays its owner's. */
  fd: number;
  /** Where the memory begins in the file; a multiple of the page size. */
  offset: number;
  /** Where it is mapped. Without it pages are copied through a buffer. */
  map?: MemoryMapAddress;
}

/** Where a mapping lies, in a form that can be sent to a worker of the same process. */
export interface MemoryMapAddress {
  address: bigint;
  length: number;
}

/** Windows over memory that somebody keeps mapped: what a worker uses. */
export class MemoryWindows {
  readonly length: number;
  readonly #address: bigint;
  readonly #windows: (ArrayBuffer | undefined)[];
  readonly #onWindow: (window: ArrayBuffer) => void;

  constructor({ address, length }: MemoryMapAddress, onWindow: (window: ArrayBuffer) => void = () => {}) {
    this.#address = address;
    this.length = length;
    this.#windows = new Array(Math.ceil(length / WINDOW_BYTES));
    this.#onWindow = onWindow;
  }

  /** The bytes `[start, start + length)`, not copied. The range must lie inside one window. */
  view(start: number, length: number): Buffer {
    if (!(start >= 0 && length >= 0 && start + length <= this.length)) {
      throw new RangeError(`range ${start}+${length} outside of a mapping of ${this.length} bytes`);
    }
    const index = Math.min(Math.floor(start / WINDOW_BYTES), Math.max(0, this.#windows.length - 1));
    const offset = start - index * WINDOW_BYTES;
    if (offset + length > WINDOW_BYTES) {
      throw new RangeError(`range ${start}+${length} crosses a multiple of ${WINDOW_BYTES} bytes`);
    }
    let window = this.#windows[index];
    if (window === undefined) {
      const base = index * WINDOW_BYTES;
      window = native().view(this.#address + BigInt(base), Math.min(WINDOW_BYTES, this.length - base));
      this.#windows[index] = window;
      this.#onWindow(window);
    }
    return Buffer.from(window, offset, length);
  }

  /**
   * Which pages of a range are in memory, one byte a page, lowest bit; `start` is page-aligned. A page that is there has contents; one
   * that is not may be a hole, swapped out, or (huge pages) only not touched yet.
   */
  resident(start: number, length: number, pages: Uint8Array): void {
    native().mincore(this.#address + BigInt(start), length, pages);
  }

  /**
   * Enters all pages of a range of data into the page table by one call, where touching them would fault for every few. Only a
   * matter of speed: kernels before 5.14 do not know it.
   */
  populate(start: number, length: number): void {
    try {
      this.#advise(start, length, MADV_POPULATE_READ);
    } catch {
      // Whatever is wrong with a page shows when it is touched.
    }
  }

  /**
   * Lets go of the page table entries of a range of a shared mapping; the contents stay in the file. Without this a pass
   * over a guest's memory would count all of it as resident here, and need 2 MiB of page tables for each GiB.
   */
  release(start: number, length: number): void {
    try {
      this.#advise(start, length, MADV_DONTNEED);
    } catch (error) {
      // Kernels before 5.18 refuse it for huge pages, whose tables are small anyway.
      if (!hasErrno(error, 'EINVAL')) throw error;
    }
  }

  #advise(start: number, length: number, advice: number): void {
    const { pageSize } = native();
    const address = this.#address + BigInt(start);
    const skip = Number(address % BigInt(pageSize));
    native().madvise(address - BigInt(skip), length + skip, advice);
  }
}

export interface MemoryMapOptions {
  fd: number;
  /** First byte of the file, a multiple of the page size. */
  offset: number;
  length: number;
  writable?: boolean;
  /** Changes stay in this process instead of going to the file. */
  copyOnWrite?: boolean;
  /** Named in errors. */
  path?: string;
}

/** A part of a file in memory. Owns the mapping, not the descriptor, which may be closed after opening. */
export class MemoryMap implements Disposable {
  readonly length: number;
  /** For `new MemoryWindows` in a worker. */
  readonly address: MemoryMapAddress;
  readonly #mapped: MemoryMapAddress;
  readonly #windows: MemoryWindows;
  readonly #liveWindows = { count: 0 };
  #closed = false;

  private constructor(mapped: MemoryMapAddress, skip: number, length: number) {
    this.#mapped = mapped;
    this.length = length;
    this.address = { address: mapped.address + BigInt(skip), length };
    this.#windows = new MemoryWindows(this.address, (window) => {
      this.#liveWindows.count++;
      collected.register(window, { mapped, live: this.#liveWindows });
    });
  }

  /**
   * Maps `[offset, offset + length)` of a file.
   *
   * @throws MapramError `IO` when the file is shorter than that or cannot be mapped (sockets, some FUSE files).
   */
  static open(options: MemoryMapOptions): MemoryMap {
    const { fd, offset, length, writable = false, copyOnWrite = false, path } = options;
    const name = path ?? `file descriptor ${fd}`;
    const details = defined({ path });
    const { size, blksize } = fstatSync(fd);
    if (offset + length > size) {
      throw new MapramError(
        'IO',
        `mapping ${length} bytes at ${offset} of ${name}: the file has only ${size} bytes`,
        { ...details, offset },
      );
    }
    // hugetlbfs maps whole huge pages, and reports their size as its block size.
    const granule = Math.max(native().pageSize, blksize);
    const skip = offset % granule;
    const mappedLength = Math.ceil((length + skip) / granule) * granule;
    admit('map', mappedLength);
    try {
      const address = native().mmap(
        null,
        mappedLength,
        writable ? PROT_READ | PROT_WRITE : PROT_READ,
        copyOnWrite ? MAP_PRIVATE | MAP_NORESERVE : MAP_SHARED,
        fd,
        offset - skip,
      );
      return new MemoryMap({ address, length: mappedLength }, skip, length);
    } catch (error) {
      throw new MapramError('IO', `mapping ${length} bytes at ${offset} of ${name}: ${errorReason(error)}`, {
        ...details,
        cause: error,
      });
    }
  }

  /** The bytes `[start, start + length)`, not copied; see `MemoryWindows.view`. */
  view(start: number, length: number): Buffer {
    if (this.#closed) throw new RangeError('the mapping is closed');
    return this.#windows.view(start, length);
  }

  /** Ends the mapping. Buffers handed out earlier read as zeros from now on. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    const { address, length } = this.#mapped;
    if (this.#liveWindows.count === 0) {
      native().munmap(address, length);
      return;
    }
    closedMaps.add(this.#liveWindows);
    native().mmap(
      address,
      length,
      PROT_READ | PROT_WRITE,
      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
      -1,
      0,
    );
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Mappings whose addresses may be given back once their windows are gone. */
const closedMaps = new WeakSet<{ count: number }>();

const collected = new FinalizationRegistry<{ mapped: MemoryMapAddress; live: { count: number } }>(
  ({ mapped, live }) => {
    live.count--;
    if (live.count === 0 && closedMaps.has(live)) native().munmap(mapped.address, mapped.length);
  },
);
