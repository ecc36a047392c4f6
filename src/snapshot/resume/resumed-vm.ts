import path from 'node:path';
import { deferred } from '../../deferred.js';
import type { ExitStatus } from '../../launch/qemu-process.js';
import type { QmpClient } from '../../qmp/qmp-client.js';
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
  /** When it was saved, ISO 8601 in UTC, where the file says so: the guest's clock continues from there. */
  savedAt?: string;
  /** Whether the guest's clock was set to the host's time, where that was asked for. */
  clockSet?: boolean;
  /** How many pages of its memory were compared with the file before it ran; absent where none were. */
  checkedPages?: Count;
  /** MAC addresses of its own, in the order of the network cards on the command line, where it was to get such. */
  macs?: string[];
}

/** What a `ResumedVm` is made of. */
interface Parts {
  readonly facts: Readonly<ResumedVmFacts>;
  readonly waiting: WaitingVm;
  /** What it was resumed from. */
  readonly file: string;
  readonly prefetched: Promise<number>;
  /** Disposed of when the VM ends or is left to itself. */
  readonly watch?: Disposable;
  readonly check?: BackgroundCheck | undefined;
  /** Of a clone: its folder, and what removes it. */
  readonly folder?: { readonly path: string; remove(): void };
}

/** A VM with a snapshot as its memory. Disposing of it ends it, unless it was detached. */
export class ResumedVm implements AsyncDisposable {
  readonly facts: Readonly<ResumedVmFacts>;
  /** Settles when reading ahead is through: bytes that were read. */
  readonly prefetched: Promise<number>;
  readonly #parts: Parts;
  readonly #left = deferred<void>();
  #detached = false;

  private constructor(parts: Parts) {
    this.#parts = parts;
    this.prefetched = parts.prefetched;
    // Rounded to what can be told apart.
    const { loadTimeMs, totalTimeMs } = parts.facts;
    this.facts = { ...parts.facts, loadTimeMs: tenths(loadTimeMs), totalTimeMs: tenths(totalTimeMs) };
    const { watch } = parts;
    if (watch !== undefined) void this.exited.then(() => watch[Symbol.dispose]());
  }

  /** @internal */
  static of(parts: Parts): ResumedVm {
    return new ResumedVm(parts);
  }

  get pid(): number {
    return this.facts.pid;
  }

  /** Absolute path of where its sockets, logs and disks are: of a clone a folder of its own, of others that of its QMP socket. */
  get directory(): string {
    return this.#parts.folder?.path ?? path.dirname(this.facts.qmp);
  }

  /**
   * The connection to QEMU that this VM is served by, for commands and events; the QMP socket (`facts.qmp`) stays free for others. Do
   * not close it: that is done when the VM ends or is detached.
   */
  qmp(): QmpClient {
    return this.#parts.waiting.vm.client;
  }

  /**
   * What the check of all memory has found, once it is through; undefined where none was asked for. Rejects with `CANCELLED` when
   * the VM was ended or detached before.
   */
  get verified(): Promise<VerifiedFile | undefined> {
    return this.#parts.check?.result ?? Promise.resolve(undefined);
  }

  /** Settles when QEMU has ended. */
  get exited(): Promise<ExitStatus> {
    return this.#parts.waiting.process.exited;
  }

  /** Settles when the VM was left to itself. */
  get detached(): Promise<void> {
    return this.#left.promise;
  }

  /**
   * Records which pages the guest has touched until now, for the next resume with `prefetch: 'recorded'`.
   *
   * @returns the bytes that will be read then
   */
  recordPrefetch(): number {
    return recordPrefetch(this.#parts.file, this.pid);
  }

  /** Passes on to this process' stderr what QEMU writes to its own. */
  forwardErrors(): void {
    this.#parts.waiting.process.forwardErrors();
  }

  /** Pauses the guest. */
  async stop(): Promise<void> {
    await this.#parts.waiting.vm.stop();
  }

  /** Lets the guest run. */
  async cont(): Promise<void> {
    await this.#parts.waiting.vm.cont();
  }

  /** Leaves the VM to itself: this process may end, the VM and its folder stay. A check under way is given up. */
  async detach(): Promise<void> {
    const { watch, check, waiting } = this.#parts;
    this.#detached = true;
    this.#left.resolve();
    watch?.[Symbol.dispose]();
    await check?.cancel();
    await waiting.vm[Symbol.asyncDispose]();
    waiting.process.detach();
  }

  /** Ends the VM, as its power switch would, and removes the folder of a clone. */
  async end(): Promise<ExitStatus> {
    const { check, waiting, folder } = this.#parts;
    await check?.cancel();
    await waiting.vm[Symbol.asyncDispose]();
    const status = await waiting.process.end();
    if (!this.#detached) folder?.remove();
    return status;
  }

  /** Ends the VM, unless it was detached. */
  async close(): Promise<void> {
    if (!this.#detached) await this.end();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

function tenths(ms: number): number {
  return Math.round(ms * 10) / 10;
}
