import { closeSync, openSync, readFileSync, readSync } from 'node:fs';
import os from 'node:os';
import { errorReason, MapramError } from '../../errors.js';
import { native } from '../native.js';

/** What is behind a page of another process' memory. */
export const PageOrigin = {
  /** Not touched yet. */
  NONE: 0,
  /** The page cache of the mapped file. */
  FILE: 1,
  /** The process' own copy. */
  PRIVATE: 2,
} as const;

/** Bytes of a page of memory here: what one entry of a page map stands for. */
export function pageMapUnit(): number {
  return native().pageSize;
}

/** Bytes of an entry of /proc/PID/pagemap, and of the part that is read at once. */
const ENTRY_BYTES = 8;
const CHUNK_BYTES = 4 * 2 ** 20;

/** Entries are in the order of bytes of this machine. */
const UPPER_HALF = os.endianness() === 'LE' ? 1 : 0;

/** In the upper half of an entry: bits 63 (present), 62 (swapped out) and 61 (of a file, or of shared memory). */
const PRESENT = 0x8000_0000;
const SWAPPED = 0x4000_0000;
const OF_FILE = 0x2000_0000;

/**
 * The origin of each page from `start` on, from /proc/PID/pagemap. Pages that the kernel mapped along with a touched neighbour count
 * as touched.
 *
 * @throws MapramError `IO` when the process is gone or belongs to another user
 */
export function readPageMap(pid: number, start: bigint, length: number): Uint8Array {
  const { pageSize } = native();
  const pages = Math.ceil(length / pageSize);
  const origins = new Uint8Array(pages);
  const chunk = new Uint32Array(Math.min(CHUNK_BYTES, pages * ENTRY_BYTES) / Uint32Array.BYTES_PER_ELEMENT);
  try {
    const fd = openSync(`/proc/${pid}/pagemap`, 'r');
    try {
      let position = Number(start / BigInt(pageSize)) * ENTRY_BYTES;
      for (let page = 0; page < pages; ) {
        const wanted = Math.min(chunk.byteLength, (pages - page) * ENTRY_BYTES);
        const read = readSync(fd, chunk, 0, wanted, position);
        if (read < ENTRY_BYTES) break;
        const words = read / Uint32Array.BYTES_PER_ELEMENT;
        for (let word = UPPER_HALF; word < words; word += 2)
          origins[page++] = originOf(chunk[word] as number);
        position += read;
      }
    } finally {
      closeSync(fd);
    }
  } catch (cause) {
    throw new MapramError('IO', `reading the page map of process ${pid}: ${errorReason(cause)}`, {
      path: `/proc/${pid}/pagemap`,
      cause,
    });
  }
  return origins;
}

function originOf(flags: number): number {
  if ((flags & (PRESENT | SWAPPED)) === 0) return PageOrigin.NONE;
  return (flags & OF_FILE) === 0 ? PageOrigin.PRIVATE : PageOrigin.FILE;
}

/** Headline of a mapping in /proc/PID/smaps, and the lines below it that count memory of its own: not of a file, or not any more. */
const SMAPS_LINE = /^(?:([0-9a-f]+)-([0-9a-f]+) |(?:Anonymous|Swap): +(\d+) kB)/gm;

/** A range of addresses, half-open, in which a process has pages of its own. */
export interface PrivateMemory {
  start: bigint;
  end: bigint;
}

/**
 * The mappings in which process `pid` has pages of its own, from /proc/PID/smaps. The kernel skips what was never touched, so that
 * this takes no longer for a large mapping; a page map has an entry for each page.
 *
 * @throws MapramError `IO` when the process is gone or belongs to another user
 */
export function privateMemory(pid: number): PrivateMemory[] {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/smaps`, 'latin1');
  } catch (cause) {
    throw new MapramError('IO', `reading the memory map of process ${pid}: ${errorReason(cause)}`, {
      path: `/proc/${pid}/smaps`,
      cause,
    });
  }
  const found: PrivateMemory[] = [];
  let mapping: PrivateMemory | undefined;
  for (const [, start, end, kib] of text.matchAll(SMAPS_LINE)) {
    if (start !== undefined) mapping = { start: BigInt(`0x${start}`), end: BigInt(`0x${end}`) };
    else if (kib !== '0' && mapping !== undefined && found.at(-1) !== mapping) found.push(mapping);
  }
  return found;
}
