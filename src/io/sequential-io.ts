/** Blocking reads and writes of sockets and pipes, which have no position: for workers, never for the main thread. */
import { readSync, writeSync } from 'node:fs';
import { constants } from 'node:os';
import { admit } from './faults.js';
import { retryOrThrow } from './retry.js';
import { systemError } from './system-error.js';

/** Reads what is there, waiting for at least one byte. Returns 0 only when the other side has closed. */
export function readSome(fd: number, data: Uint8Array): number {
  return retried(() =>
    readSync(
      fd,
      data,
      0,
      admit('read', data.length, () => ({ fd })),
      null,
    ),
  );
}

/** Reads until `data` is full. Returns the number of bytes, smaller only when the other side has closed. */
export function readAll(fd: number, data: Uint8Array): number {
  let done = 0;
  while (done < data.length) {
    const read = retried(() =>
      readSync(
        fd,
        data,
        done,
        admit('read', data.length - done, () => ({ fd })),
        null,
      ),
    );
    if (read === 0) break;
    done += read;
  }
  return done;
}

/** Writes all of `data`. */
export function writeAll(fd: number, data: Uint8Array): void {
  let done = 0;
  while (done < data.length) {
    const written = retried(() =>
      writeSync(
        fd,
        data,
        done,
        admit('write', data.length - done, () => ({ fd })),
        null,
      ),
    );
    if (written === 0) throw systemError(constants.errno.EIO, 'write');
    done += written;
  }
}

function retried(call: () => number): number {
  for (;;) {
    try {
      return call();
    } catch (error) {
      retryOrThrow(error);
    }
  }
}
