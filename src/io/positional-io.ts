import { readSync, writeSync } from 'node:fs';
import { constants } from 'node:os';
import { admit } from './faults.js';
import { retryOrThrow } from './retry.js';
import { hasErrno, systemError } from './system-error.js';

/**
 * Writes all of `data` at `position`, however short the single writes are.
 *
 * @throws the system error of the failing write; EIO where the kernel takes nothing at all.
 */
export function writeFully(fd: number, data: Uint8Array, position: number): void {
  let done = 0;
  while (done < data.length) {
    const written = writeSome(fd, data, done, position + done);
    if (written === 0) throw systemError(constants.errno.EIO, 'write');
    done += written;
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
 */
export function readFully(fd: number, data: Uint8Array, position: number): number {
  let done = 0;
  while (done < data.length) {
    const read = readSome(fd, data, done, position + done);
    if (read === 0) break;
    done += read;
  }
  return done;
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
