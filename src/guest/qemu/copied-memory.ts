/** The memory of a QEMU that was resumed: its blocks are private mappings of the page areas of a mapped-ram file. */
import { statSync } from 'node:fs';
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
