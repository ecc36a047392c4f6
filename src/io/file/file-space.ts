import { fstatSync, ftruncateSync, statfsSync } from 'node:fs';
import { admit } from '../faults.js';
import { native } from '../native.js';
import { hasErrno } from '../system-error.js';

const FALLOC_FL_KEEP_SIZE = 1;
const FALLOC_FL_PUNCH_HOLE = 2;

/** Errors that say "this file system cannot do that", as opposed to "it failed". */
const NOT_OFFERED = ['EOPNOTSUPP', 'ENOTSUP', 'ENOSYS', 'ENODEV', 'ESPIPE'];

/**
 * Reserves blocks for a range without changing the file's size. Returns false where the file system has no such
 * call; throws when there is no space.
 */
export function allocateRange(fd: number, offset: number, length: number): boolean {
  return fallocate('allocate', fd, FALLOC_FL_KEEP_SIZE, offset, length);
}

/**
 * Turns a range into a hole: it reads as zeros and takes no space. Returns false where the file system has no such
 * call. On hugetlbfs parts of huge pages are zeroed and whole ones freed.
 */
export function punchHole(fd: number, offset: number, length: number): boolean {
  return fallocate('punch', fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
}

function fallocate(
  call: 'allocate' | 'punch',
  fd: number,
  mode: number,
  offset: number,
  length: number,
): boolean {
  admit(call, length);
  try {
    native().fallocate(fd, mode, offset, length);
    return true;
  } catch (error) {
    if (hasErrno(error, ...NOT_OFFERED)) return false;
    throw error;
  }
}

/** Sets the size of a file; what is cut off is lost, what is added is a hole. */
export function truncateFile(fd: number, length: number): void {
  admit('truncate', length, () => ({ fd }));
  ftruncateSync(fd, length);
}

/**
 * Bytes that an unprivileged process can still write to the file system of `path`. Infinite where it has no size to tell
 * (ramfs gives 0 for everything).
 */
export function freeSpace(path: string): number {
  const { blocks, bavail, bsize } = statfsSync(path);
  return blocks === 0 ? Number.POSITIVE_INFINITY : bavail * bsize;
}

/** Bytes of disk that an open file takes (holes take none). */
export function allocatedBytes(fd: number): number {
  return fstatSync(fd).blocks * 512;
}

/** Length of an open file, holes included. */
export function fileSize(fd: number): number {
  return fstatSync(fd).size;
}
