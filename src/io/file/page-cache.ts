import { fstatSync } from 'node:fs';
import { MemoryMap } from '../memory/memory-map.js';
import { native } from '../native.js';
import { hasErrno } from '../system-error.js';

const POSIX_FADV_DONTNEED = 4;
const SYNC_FILE_RANGE_WAIT_BEFORE = 1;
const SYNC_FILE_RANGE_WRITE = 2;
const SYNC_FILE_RANGE_WAIT_AFTER = 4;
/** Errors of calls that a kernel or file system has not. */
const NOT_OFFERED = ['ENOSYS', 'EOPNOTSUPP', 'ENOTSUP', 'ESPIPE', 'EPERM', 'EINVAL'];

/**
 * Bytes of an open file that are in the page cache: asked with cachestat (Linux 6.5), else counted with mincore over
 * a mapping.
 */
export function cachedBytes(fd: number): number {
  const { pageSize } = native();
  const range = Buffer.alloc(16);
  const result = Buffer.alloc(40);
  try {
    native().cachestat(fd, range, result, 0);
    return Number(result.readBigUInt64LE(0)) * pageSize;
  } catch (error) {
    if (!hasErrno(error, ...NOT_OFFERED)) throw error;
  }
  return residentBytes(fd);
}

/** The mincore way, for kernels without cachestat. */
export function residentBytes(fd: number): number {
  const { pageSize } = native();
  const { size } = fstatSync(fd);
  if (size === 0) return 0;
  using map = MemoryMap.open({ fd, offset: 0, length: size });
  const vector = new Uint8Array(Math.ceil(size / pageSize));
  native().mincore(map.address.address, size, vector);
  let pages = 0;
  for (const entry of vector) pages += entry & 1;
  return pages * pageSize;
}

/**
 * Lets the kernel forget a range (length 0: to the end) of an open file. Only clean pages go: write back first. False where not offered.
 */
export function dropCache(fd: number, offset = 0, length = 0): boolean {
  return offered(() => native().posixFadvise(fd, offset, length, POSIX_FADV_DONTNEED));
}

/** Starts writing dirty pages of a range to the disk without waiting. False where not offered. */
export function startWriteBack(fd: number, offset: number, length: number): boolean {
  return offered(() => native().syncFileRange(fd, offset, length, SYNC_FILE_RANGE_WRITE));
}

/** Writes dirty pages of a range to the disk and waits. Says nothing about metadata: no substitute for a sync. */
export function finishWriteBack(fd: number, offset: number, length: number): boolean {
  const flags = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
  return offered(() => native().syncFileRange(fd, offset, length, flags));
}

function offered(call: () => void): boolean {
  try {
    call();
    return true;
  } catch (error) {
    if (hasErrno(error, ...NOT_OFFERED)) return false;
    throw error;
  }
}
