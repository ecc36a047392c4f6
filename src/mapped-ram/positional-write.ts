import { write } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { isError, MapramError } from '../errors.js';
import { admit } from '../io/faults.js';
import { hasErrno } from '../io/system-error.js';

/** Pause before a write that gave EAGAIN is made again. */
const RETRY_MS = 1;

/**
 * Writes all of `bytes` at `position`, going on after short and interrupted writes, without blocking the thread.
 *
 * @param path the file, for the error
 * @throws MapramError `NO_SPACE` when the disk or quota is full, else `IO`
 */
export async function writeFully(
  fd: number,
  bytes: Uint8Array,
  position: number,
  path: string,
): Promise<void> {
  for (let done = 0; done < bytes.byteLength; ) {
    const written = await writeOnce(fd, bytes, done, position + done).catch((cause: unknown) => {
      if (hasErrno(cause, 'EINTR', 'EAGAIN')) return undefined;
      throw writeError(cause, position + done, path);
    });
    if (written === undefined) {
      await delay(RETRY_MS);
      continue;
    }
    if (written === 0) throw writeError(new Error('nothing was written'), position + done, path);
    done += written;
  }
}

async function writeOnce(fd: number, bytes: Uint8Array, from: number, position: number): Promise<number> {
  const length = admit('write', bytes.byteLength - from, () => ({ fd, position }));
  return new Promise((resolve, reject) => {
    write(fd, bytes, from, length, position, (error, written) => {
      if (error) reject(error);
      else resolve(written);
    });
  });
}

function writeError(cause: unknown, offset: number, path: string): MapramError {
  const full = hasErrno(cause, 'ENOSPC', 'EDQUOT');
  const reason = isError(cause) ? cause.message : String(cause);
  return new MapramError(
    full ? 'NO_SPACE' : 'IO',
    `writing ${path}: ${reason} at offset ${offset}${full ? '; free space or choose another directory' : ''}`,
    { path, offset, cause },
  );
}
