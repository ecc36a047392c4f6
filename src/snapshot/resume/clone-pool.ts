/**
 * Keeps QEMUs started and waiting, with the memory of one snapshot mapped, so that taking one costs only the device
 * state: a few milliseconds.
 */

import { EventEmitter } from 'node:events';
import { defined } from '../../defined.js';
import { errorReason, MapramError } from '../../errors.js';
import { withFileErrors } from '../files/file-errors.js';
import { CloneFactory, type CloneOptions, removeTree, type WaitingClone } from './clone-factory.js';
import type { ResumedVm } from './resumed-vm.js';

export interface ClonePoolOptions extends CloneOptions {
  /** How many QEMUs are to wait. */
  size: number;
}

export interface ClonePoolHealth {
  /** QEMUs that can be taken now. */
  waiting: number;
  /** QEMUs that are being started. */
  starting: number;
  taken: number;
  /** QEMUs that ended while they waited, or did not start. */
  lost: number;
  /** Why the last one was lost. */
  lastError?: MapramError;
}

/** So many failures in a row are not an accident: the pool stops to refill until the next `take`. */
const MAX_FAILURES = 3;

export class ClonePool extends EventEmitter<{ ready: []; lost: [MapramError] }> implements AsyncDisposable {
  readonly #factory: CloneFactory;
  readonly #size: number;
  readonly #watch: Disposable;
  readonly #stop = new AbortController();
  readonly #ready: WaitingClone[] = [];
  readonly #starts = new Set<Promise<void>>();
  readonly #claims: { resolve: (clone: WaitingClone) => void; reject: (error: unknown) => void }[] = [];
  #failures = 0;
  #taken = 0;
  #lost = 0;
  #lastError: MapramError | undefined;

  private constructor(factory: CloneFactory, size: number) {
    super();
    this.#factory = factory;
    this.#size = size;
    this.#watch = factory.watch();
  }

  /**
   * Opens the snapshot and begins to fill the pool; `take` may be called at once.
   *
   * @throws MapramError as `resume` does for what can be told before a QEMU is started
   */
  static async open(options: ClonePoolOptions): Promise<ClonePool> {
    const { size } = options;
    if (!Number.isInteger(size) || size < 1) {
      throw new MapramError('USAGE', `opening a pool of ${options.file}: ${size} is not a number of VMs`);
    }
    const factory = await withFileErrors(`opening a pool of ${options.file}`, options.file, () =>
      CloneFactory.open(options),
    );
    const pool = new ClonePool(factory, size);
    pool.#refill();
    return pool;
  }

  /** Holds the folders of the clones. */
  get directory(): string {
    return this.#factory.directory;
  }

  get health(): ClonePoolHealth {
    return {
      waiting: this.#ready.length,
      starting: this.#starts.size,
      taken: this.#taken,
      lost: this.#lost,
      ...defined({ lastError: this.#lastError }),
    };
  }

  /** Resolves when as many QEMUs wait as the pool is to hold. Rejects when they do not start. */
  async filled(): Promise<void> {
    while (this.#ready.length < this.#size) {
      this.#refill();
      if (this.#starts.size === 0) throw this.#lastError;
      await Promise.race(this.#starts);
    }
  }

  /**
   * Takes a waiting QEMU and gives it the device state; another one is started in its place. The VM is the caller's from
   * then on, and so is its folder, in which its QMP socket is.
   *
   * @throws MapramError of the start when no QEMU can be started; the reason of `signal`
   */
  async take({ signal }: { signal?: AbortSignal } = {}): Promise<ResumedVm> {
    signal?.throwIfAborted();
    if (this.#stop.signal.aborted) throw closed();
    const startedAt = performance.now();
    this.#failures = 0;
    const clone = await this.#claim(signal);
    this.#taken += 1;
    const completed = this.#factory.complete(clone, startedAt, signal);
    // Not before: the start of the next QEMU would compete with this load.
    void completed.then(
      () => this.#refill(),
      () => this.#refill(),
    );
    return completed;
  }

  /** Ends the QEMUs that wait. Those that were taken go on, in their folders. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#stop.signal.aborted) return;
    this.#stop.abort(closed());
    for (const { reject } of this.#claims.splice(0)) reject(closed());
    await Promise.all(this.#starts);
    const ready = this.#ready.splice(0);
    await Promise.all(ready.map((clone) => clone[Symbol.asyncDispose]()));
    this.#watch[Symbol.dispose]();
    await this.#factory[Symbol.asyncDispose]();
    if (this.#factory.temporary && this.#taken === 0) removeTree(this.directory);
    this.#factory.guard[Symbol.dispose]();
  }

  #claim(signal: AbortSignal | undefined): Promise<WaitingClone> {
    const next = this.#ready.shift();
    if (next !== undefined) return Promise.resolve(next);
    return new Promise((resolve, reject) => {
      const settle = () => {
        signal?.removeEventListener('abort', onAbort);
        const index = this.#claims.indexOf(claim);
        if (index >= 0) this.#claims.splice(index, 1);
      };
      const claim = {
        resolve: (clone: WaitingClone) => {
          settle();
          resolve(clone);
        },
        reject: (error: unknown) => {
          settle();
          reject(error);
        },
      };
      const onAbort = () => claim.reject(signal?.reason);
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#claims.push(claim);
      this.#refill();
    });
  }

  #refill(): void {
    const wanted = this.#size + this.#claims.length;
    while (
      !this.#stop.signal.aborted &&
      this.#failures < MAX_FAILURES &&
      this.#ready.length + this.#starts.size < wanted
    ) {
      const start = this.#startOne().finally(() => {
        this.#starts.delete(start);
        this.#refill();
      });
      this.#starts.add(start);
    }
  }

  async #startOne(): Promise<void> {
    try {
      const clone = await this.#factory.start(this.#stop.signal);
      this.#failures = 0;
      this.#offer(clone);
    } catch (error) {
      if (this.#stop.signal.aborted) return;
      this.#failures += 1;
      this.#noteLoss(error);
      if (this.#failures < MAX_FAILURES) return;
      for (const { reject } of this.#claims.splice(0)) reject(error);
    }
  }

  #offer(clone: WaitingClone): void {
    const [claim] = this.#claims;
    if (claim !== undefined) {
      claim.resolve(clone);
      return;
    }
    this.#ready.push(clone);
    clone.waiting.process.exited
      .then(() => this.#dropEnded(clone))
      .catch((error: unknown) => this.#noteLoss(error));
    this.emit('ready');
  }

  /** A QEMU that ends while it waits is replaced. */
  async #dropEnded(clone: WaitingClone): Promise<void> {
    const index = this.#ready.indexOf(clone);
    if (index < 0) return;
    this.#ready.splice(index, 1);
    const said = clone.waiting.process.said;
    this.#noteLoss(new Error(`it ended while it waited${said === '' ? '' : `: ${said}`}`));
    await clone[Symbol.asyncDispose]();
    this.#refill();
  }

  #noteLoss(error: unknown): void {
    this.#lost += 1;
    this.#lastError =
      error instanceof MapramError
        ? error
        : new MapramError('VM', `keeping a VM ready: ${errorReason(error)}`, { cause: error });
    this.emit('lost', this.#lastError);
  }
}

function closed(): MapramError {
  return new MapramError('CANCELLED', 'taking a VM from a pool: the pool is closed');
}
