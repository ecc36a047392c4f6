import { hasErrno } from './system-error.js';

/** Pause before a call that gave EAGAIN is made again. */
const RETRY_MS = 1;

/** Returns when a call that failed so is to be made again; the thread pauses meanwhile. Throws every other error. */
export function retryOrThrow(error: unknown): void {
  if (hasErrno(error, 'EAGAIN')) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, RETRY_MS);
  else if (!hasErrno(error, 'EINTR')) throw error;
}
