import { constants } from 'node:os';
import { errorReason, MapramError } from '../../errors.js';
import { closeFile } from '../file/open-file.js';
import { native } from '../native.js';
import { hasErrno } from '../system-error.js';

const POLLIN = 1;

/** A process held by a pidfd: unlike a number it can never come to mean another process. Linux 5.3. */
export class ProcessHandle implements Disposable {
  private constructor(
    readonly pid: number,
    private readonly pidfd: number,
  ) {}

  /** @throws MapramError `IO`, with ESRCH in the cause when there is no such process. */
  static open(pid: number): ProcessHandle {
    try {
      return new ProcessHandle(pid, native().pidfdOpen(pid, 0));
    } catch (cause) {
      throw new MapramError('IO', `opening process ${pid}: ${errorReason(cause)}`, { cause });
    }
  }

  /** False once the process has ended, whether or not its parent has noticed. */
  get alive(): boolean {
    const entry = Buffer.alloc(8);
    entry.writeInt32LE(this.pidfd, 0);
    entry.writeInt16LE(POLLIN, 4);
    return native().poll(entry, 1, 0) === 0;
  }

  /** A duplicate of one of the process' descriptors (needs the right to trace it). The caller closes it. */
  takeDescriptor(fd: number): number {
    return native().pidfdGetfd(this.pidfd, fd, 0);
  }

  /** Sends a signal; false when the process has ended already. */
  signal(name: NodeJS.Signals): boolean {
    try {
      native().pidfdSendSignal(this.pidfd, constants.signals[name]);
      return true;
    } catch (error) {
      if (hasErrno(error, 'ESRCH')) return false;
      throw error;
    }
  }

  [Symbol.dispose](): void {
    closeFile(this.pidfd);
  }
}
