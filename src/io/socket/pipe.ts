import { constants } from 'node:fs';
import { native } from '../native.js';

const O_CLOEXEC = 0o2000000;
const F_GETFL = 3;
const F_SETFL = 4;

/** The two ends of a pipe. The caller closes both. */
export function openPipe(): { readEnd: number; writeEnd: number } {
  const ends = new Int32Array(2);
  native().pipe2(ends, O_CLOEXEC);
  return { readEnd: ends[0] as number, writeEnd: ends[1] as number };
}

/** Makes the open file under `fd` non-blocking: for everybody who shares it, but not for the other end of a pipe. */
export function setNonBlocking(fd: number): void {
  native().fcntl(fd, F_SETFL, native().fcntl(fd, F_GETFL, 0) | constants.O_NONBLOCK);
}
