/** Blocking reads and writes of sockets and pipes, which have no position: for workers, never for the main thread. */
import { readSync, writeSync } from 'node:fs';
import { constants } from 'node:os';
import { admit } from '../faults.js';
import { retryOrThrow } from '../retry.js';
import { pollReadable, pollWritable } from '../socket/poll.js';
import { hasErrno, systemError } from '../system-error.js';

/** How long a wait takes before somebody is asked whether it still makes sense. */
const PATIENCE_MS = 100;

/**
 * Reads what is there, waiting for at least one byte. Returns 0 only when the other side has closed.
 *
 * @param giveUp asked every now and then while a non-blocking descriptor has nothing; throws to end the wait
 */
export function readSome(fd: number, data: Uint8Array, giveUp: () => void = () => {}): number {
  for (;;) {
    const read = retried(() => {
      try {
        return readSync(
          fd,
          data,
          0,
          admit('read', data.length, () => ({ fd })),
          null,
        );
      } catch (error) {
        if (!hasErrno(error, 'EAGAIN')) throw error;
        while (pollReadable([fd], PATIENCE_MS).length === 0) giveUp();
        return undefined;
      }
    });
    if (read !== undefined) return read;
  }
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

/**
 * Writes all of `data`.
 *
 * @param giveUp asked every now and then while a non-blocking descriptor takes nothing; throws to end the wait
 */
export function writeAll(fd: number, data: Uint8Array, giveUp: () => void = () => {}): void {
  let done = 0;
  while (done < data.length) {
    const written = retried(() => {
      try {
        return writeSync(
          fd,
          data,
          done,
          admit('write', data.length - done, () => ({ fd })),
          null,
        );
      } catch (error) {
        if (!hasErrno(error, 'EAGAIN')) throw error;
        while (pollWritable([fd], PATIENCE_MS).length === 0) giveUp();
        return undefined;
      }
    });
    if (written === 0) throw systemError(constants.errno.EIO, 'write');
    done += written ?? 0;
  }
}

function retried<T>(call: () => T): T {
  for (;;) {
    try {
      return call();
    } catch (error) {
      retryOrThrow(error);
    }
  }
}
