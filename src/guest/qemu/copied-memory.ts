/** The memory of a QEMU that was resumed: its blocks are private mappings of the page areas of a mapped-ram file. */
import { statSync } from 'node:fs';
import { PageOrigin, pageMapUnit, readPageMap, readPrivateBytes } from '../../io/page-map.js';
import { type ProcessMapping, readProcessMaps } from '../../io/process-maps.js';

/** A part of `file` in the memory of a process. */
export interface CopiedRange {
  /** Address in the process. */
  start: bigint;
  /** Offset in the file. */
  offset: number;
  length: number;
}

/** The private, writable mappings that process `pid` has of `file`. */
export function copiedRanges(pid: number, file: string): CopiedRange[] {
  const { ino } = statSync(file);
  return readProcessMaps(pid)
    .filter((mapping) => isCopyOf(mapping, file, ino))
    .map(({ start, offset, length }) => ({ start, offset, length }));
}

function isCopyOf({ shared, writable, path, inode }: ProcessMapping, file: string, ino: number): boolean {
  return !shared && writable && inode === ino && path === file;
}

/**
 * The parts of mapped ranges that process `pid` has written to: what it has there is its own copy, and no longer the file's. Takes
 * milliseconds where there are none, however large the ranges are.
 *
 * @returns bytes of the file, in ascending order
 * @throws MapramError `IO` when the process is gone or may not be looked into
 */
export function writtenRanges(
  pid: number,
  ranges: readonly CopiedRange[],
): { offset: number; length: number }[] {
  const privateBytes = [...readPrivateBytes(pid)];
  const unit = pageMapUnit();
  const written: { offset: number; length: number }[] = [];
  for (const { start, offset, length } of ranges.toSorted((a, b) => a.offset - b.offset)) {
    // One range may be shown as several mappings.
    const end = start + BigInt(length);
    if (!privateBytes.some(([address]) => start <= address && address < end)) continue;
    const origins = readPageMap(pid, start, length);
    for (let page = origins.indexOf(PageOrigin.PRIVATE); page >= 0; ) {
      let next = page + 1;
      while (origins[next] === PageOrigin.PRIVATE) next++;
      written.push({ offset: offset + page * unit, length: (next - page) * unit });
      page = origins.indexOf(PageOrigin.PRIVATE, next);
    }
  }
  return written;
}
