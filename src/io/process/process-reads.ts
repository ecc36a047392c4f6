import { readFileSync } from 'node:fs';

/**
 * Bytes that a process has read so far, by whatever system call and from wherever; `undefined` where the kernel does not tell:
 * another user's process, or one that is gone. (`rchar` in proc(5), `/proc/PID/io`.)
 */
export function bytesReadBy(pid: number): number | undefined {
  try {
    const [, bytes] = /^rchar: (\d+)$/m.exec(readFileSync(`/proc/${pid}/io`, 'utf8')) ?? [];
    return bytes === undefined ? undefined : Number(bytes);
  } catch {
    return undefined;
  }
}
