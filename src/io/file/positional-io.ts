import { readSync, writeSync } from 'node:fs';
import { constants } from 'node:os';
import { admit } from '../faults.js';
import { retryOrThrow } from '../retry.js';
import { hasErrno, systemError } from '../system-error.js';
import { FileIoError } from './file-io-error.js';
import { fileSize } from './file-space.js';

/**
 * Writes all of `data` at `position`, however short the single writes are.
 *
 * @param done bytes of it that are written already
 * @throws the system error of the failing write; EIO where the kernel takes nothing at all.
 */
export function writeFully(fd: number, data: Uint8Array, position: number, done = 0): void {
  for (let at = done; at < data.length; ) {
    const written = writeSome(fd, data, at, position + at);
    if (written === 0) throw systemError(constants.errno.EIO, 'write');
    at += written;
  }
}

/** One `pwrite` of at most `data.length - offset` bytes, repeated only after EINTR and EAGAIN. */
function writeSome(fd: number, data: Uint8Array, offset: number, position: number): number {
  for (;;) {
    try {
      return writeSync(
        fd,
        data,
        offset,
        admit('write', data.length - offset, () => ({ fd, position })),
        position,
      );
    } catch (error) {
      retryOrThrow(error);
    }
  }
}

/**
 * Reads into all of `data` from `position` on. Returns the number of bytes, which is smaller than asked only
 * when the file ends there.
 *
 * @param done bytes of it that are read already
 */
export function readFully(fd: number, data: Uint8Array, position: number, done = 0): number {
  let at = done;
  while (at < data.length) {
    const read = readSome(fd, data, at, position + at);
    if (read === 0) break;
    at += read;
  }
  return at;
}

/**
 * As `readFully`, of bytes that must be there.
 *
 * @throws FileIoError that is `truncated` where the file ends before them; the system error of a read that fails
 */
export function readWhole(fd: number, data: Uint8Array, position: number, done = 0): void {
  const read = readFully(fd, data, position, done);
  if (read === data.length) return;
  // Where the file ends is known from it alone: this may lie far behind.
  const end = Math.min(position + read, fileSize(fd));
  throw new FileIoError(end, `the file ends at ${end}`, true);
}

function readSome(fd: number, data: Uint8Array, offset: number, position: number): number {
  for (;;) {
    try {
      return readSync(
        fd,
        data,
        offset,
        admit('read', data.length - offset, () => ({ fd, position })),
        position,
      );
    } catch (error) {
      // After the unaligned end of a file a direct read cannot go on at an aligned place: the kernel says
      // EINVAL where a buffered read would give 0.
      if (offset > 0 && position % 512 !== 0 && hasErrno(error, 'EINVAL')) return 0;
      retryOrThrow(error);
    }
  }
}
