import type { ExitStatus } from '../launch/qemu-process.js';
import type { WaitingVm } from './waiting-vm.js';

/** What is known of a VM once it has its state. Times in ms. */
export interface ResumedVmFacts {
  pid: number;
  /** Absolute path of its QMP socket. */
  qmp: string;
  /** What QEMU took for the device state. */
  loadTimeMs: number;
  /** From the call until the guest was there, QEMU's own start included. */
  totalTimeMs: number;
  runState: string;
}

/** A VM with a snapshot as its memory. Disposing of it ends it, unless it was detached. */
export class ResumedVm implements AsyncDisposable {
  #detached = false;

  constructor(
    readonly facts: Readonly<ResumedVmFacts>,
    private readonly waiting: WaitingVm,
  ) {}

  get pid(): number {
    return this.facts.pid;
  }

  get qmp(): string {
    return this.facts.qmp;
  }

  /** Settles when QEMU has ended. */
  get exited(): Promise<ExitStatus> {
    return this.waiting.process.exited;
  }

  /** Passes on to this process' stderr what QEMU writes to its own. */
  forwardErrors(): void {
    this.waiting.process.forwardErrors();
  }

  /** Leaves the VM to itself: this process may end, the VM goes on. */
  async detach(): Promise<void> {
    this.#detached = true;
    await this.waiting.vm[Symbol.asyncDispose]();
    this.waiting.process.detach();
  }

  /** Ends the VM, as its power switch would. */
  async end(): Promise<ExitStatus> {
    await this.waiting.vm[Symbol.asyncDispose]();
    return this.waiting.process.end();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#detached) await this.end();
  }
}
