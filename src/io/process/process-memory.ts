import { closeSync, openSync, readSync } from 'node:fs';
import { errorReason, MapramError } from '../../errors.js';

/** The memory of another process, read through /proc/PID/mem: without stopping it, so it must hold still by itself. */
export class ProcessMemory implements Disposable {
  private constructor(
    readonly pid: number,
    private readonly fd: number,
  ) {}

  /** @throws MapramError `IO` without the right to trace that process */
  static open(pid: number): ProcessMemory {
    try {
      return new ProcessMemory(pid, openSync(`/proc/${pid}/mem`, 'r'));
    } catch (cause) {
      throw new MapramError(
        'IO',
        `reading the memory of process ${pid}: ${errorReason(cause)}; run as root, or allow ptrace (kernel.yama.ptrace_scope)`,
        { path: `/proc/${pid}/mem`, cause },
      );
    }
  }

  /**
   * Fills `into` with what is at `address`.
   *
   * @throws MapramError `IO` where nothing is mapped
   */
  read(address: bigint, into: Uint8Array): void {
    for (let done = 0; done < into.length; ) {
      let read = 0;
      try {
        read = readSync(this.fd, into, done, into.length - done, address + BigInt(done));
      } catch (cause) {
        throw new MapramError('IO', `reading the memory of process ${this.pid}: ${errorReason(cause)}`, {
          cause,
        });
      }
      if (read === 0) throw new MapramError('IO', `reading the memory of process ${this.pid}: it has ended`);
      done += read;
    }
  }

  [Symbol.dispose](): void {
    closeSync(this.fd);
  }
}
