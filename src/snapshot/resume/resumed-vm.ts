import type { ExitStatus } from '../../launch/qemu-process.js';
import type { Count, Milliseconds } from '../../units.js';
import type { BackgroundCheck } from '../verify/background-check.js';
import type { VerifiedFile } from '../verify/verify.js';
import { recordPrefetch } from './prefetch.js';
import type { WaitingVm } from './waiting-vm.js';

/** What is known of a VM once it has its state. Times in ms. */
export interface ResumedVmFacts {
  pid: Count;
  /** Absolute path of its QMP socket. */
  qmp: string;
  /** What QEMU took for the device state. */
  loadTimeMs: Milliseconds;
  /** From the call until the guest was there, QEMU's own start included. */
  totalTimeMs: Milliseconds;
  runState: string;
  /** When it was saved, ISO 8601 in UTC, where the file tells: the guest's clock goes on from there. */
  savedAt?: string;
  /** Whether the guest's clock was set to the host's time, where that was asked for. */
  clockSet?: boolean;
  /** How many pages of its memory were compared with the file before it ran; absent where none were. */
  checkedPages?: Count;
  /** MAC addresses of its own, in the order of the network cards on the command line, where it was to get such. */
  macs?: string[];
}

/** A VM with a snapshot as its memory. Disposing of it ends it, unless it was detached. */
export class ResumedVm implements AsyncDisposable {
  readonly facts: Readonly<ResumedVmFacts>;
  #detached = false;

  constructor(
    facts: Readonly<ResumedVmFacts>,
    private readonly waiting: WaitingVm,
    private readonly file: string,
    /** Settles when reading ahead is through: bytes that were read. */
    readonly prefetched: Promise<number>,
    /** Disposed of when the VM ends or is left to itself. */
    private readonly watch?: Disposable,
    private readonly check?: BackgroundCheck,
  ) {
    // Rounded to what can be told apart.
    const { loadTimeMs, totalTimeMs } = facts;
    this.facts = { ...facts, loadTimeMs: tenths(loadTimeMs), totalTimeMs: tenths(totalTimeMs) };
    if (watch !== undefined) void this.exited.then(() => watch[Symbol.dispose]());
  }

  get pid(): number {
    return this.facts.pid;
  }

  get qmp(): string {
    return this.facts.qmp;
  }

  /**
   * What the check of all memory has found, once it is through; undefined where none was asked for. Rejects with `CANCELLED` when
   * the VM was ended or detached before.
   */
  get verified(): Promise<VerifiedFile | undefined> {
    return this.check?.result ?? Promise.resolve(undefined);
  }

  /** Settles when QEMU has ended. */
  get exited(): Promise<ExitStatus> {
    return this.waiting.process.exited;
  }

  /**
   * Records which pages the guest has touched until now, for the next resume with `prefetch: 'recorded'`.
   *
   * @returns the bytes that will be read then
   */
  recordPrefetch(): number {
    return recordPrefetch(this.file, this.pid);
  }

  /** Passes on to this process' stderr what QEMU writes to its own. */
  forwardErrors(): void {
    this.waiting.process.forwardErrors();
  }

  /** Stops the guest's processors; the monitor command `cont` lets it go on. */
  async stop(): Promise<void> {
    await this.waiting.vm.stop();
  }

  /** Leaves the VM to itself: this process may end, the VM goes on. A check under way is given up. */
  async detach(): Promise<void> {
    this.#detached = true;
    this.watch?.[Symbol.dispose]();
    await this.check?.cancel();
    await this.waiting.vm[Symbol.asyncDispose]();
    this.waiting.process.detach();
  }

  /** Ends the VM, as its power switch would. */
  async end(): Promise<ExitStatus> {
    await this.check?.cancel();
    await this.waiting.vm[Symbol.asyncDispose]();
    return this.waiting.process.end();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#detached) await this.end();
  }
}

function tenths(ms: number): number {
  return Math.round(ms * 10) / 10;
}
