import { native } from '../native.js';
import { hasErrno } from '../system-error.js';

/** `lseek` whence values of Linux. */
const SEEK_DATA = 3;
const SEEK_HOLE = 4;

/** A half-open range of bytes. */
export interface Extent {
  start: number;
  end: number;
}

/**
 * The ranges of `[start, end)` that hold data, in ascending order; the rest are holes.
 *
 * Holes are found by seeking, never by reading: reading a hole of a tmpfs file through a mapping would allocate it.
 * Where the file system cannot tell (hugetlbfs has no seek) everything counts as data. Moves the file position.
 *
 * The kernel looks for the end of an extent wherever that is, however small the range: page by page in tmpfs, tens of
 * nanoseconds each. One walk over a file is cheap; asking for every small piece of a full file again is not.
 */
export function* dataExtents(fd: number, start: number, end: number): Generator<Extent> {
  let position = start;
  while (position < end) {
    const data = seekData(fd, position);
    if (data === 'unknown') {
      yield { start: position, end };
      return;
    }
    if (data === 'none' || data >= end) return;
    const hole = seek(fd, data, SEEK_HOLE);
    const extentEnd = typeof hole === 'number' ? Math.min(hole, end) : end;
    yield { start: data, end: extentEnd };
    position = extentEnd;
  }
}

/** Where data begins at or after `position`; `unknown` where the file system cannot tell. Cheap: holes are skipped as a whole. */
export function seekData(fd: number, position: number): number | 'none' | 'unknown' {
  return seek(fd, position, SEEK_DATA);
}

function seek(fd: number, position: number, whence: number): number | 'none' | 'unknown' {
  try {
    return native().lseek(fd, position, whence);
  } catch (error) {
    if (hasErrno(error, 'ENXIO')) return 'none';
    if (hasErrno(error, 'ESPIPE', 'EINVAL', 'EOPNOTSUPP', 'ENOTSUP', 'ENOSYS')) return 'unknown';
    throw error;
  }
}
