/**
 * Keeps QEMUs started and waiting, with the memory of one snapshot mapped, so that taking one costs only the device
 * state: a few milliseconds.
 */

import { EventEmitter } from 'node:events';
import * as v from 'valibot';
import { assertOptions, optionsOf, signal, wholeNumber } from '../../checked-options.js';
import { defined } from '../../defined.js';
import { errorReason, MapramError } from '../../errors.js';
import { runOperation } from '../files/operation.js';
import { CloneFactory, type CloneOptions, cloneEntries, type WaitingClone } from './clone-factory.js';
import { FORMER_LAUNCH_NAMES } from './launch-options.js';
import type { ResumedVm } from './resumed-vm.js';

/** More QEMUs than a host has memory for are a number that was mistyped. */
const MAX_SIZE = 10_000;
/** The longest time that a timer of Node.js can wait. */
const MAX_TIMER_MS = 2 ** 31 - 1;

export interface ClonePoolOptions extends CloneOptions {
  /** How many QEMUs are to wait. */
  size: number;
  /** How many VMs may be taken and not have ended yet; `take` waits for one to end then. Without limit by default. */
  maxTaken?: number | undefined;
  /** How many calls of `take` may wait for a VM; one more is rejected with `BUSY`. Without limit by default. */
  maxQueued?: number | undefined;
  /** A VM that was taken is ended after so long, in ms, unless it was detached. Without limit by default. */
  maxLifetimeMs?: number | undefined;
  /** A QEMU that has waited so long, in ms, is replaced by a new one. Without limit by default. */
  maxWaitingMs?: number | undefined;
  /** How many QEMUs are started at the same time: each start takes processor time from the VMs that run. As many as needed by default. */
  maxStarting?: number | undefined;
}

type PoolLimits = Omit<ClonePoolOptions, keyof CloneOptions>;

const ClonePoolOptionsSchema = optionsOf<ClonePoolOptions>(
  {
    ...cloneEntries,
    size: wholeNumber(1, MAX_SIZE),
    maxTaken: v.optional(wholeNumber(1)),
    maxQueued: v.optional(wholeNumber(0)),
    maxLifetimeMs: v.optional(wholeNumber(1, MAX_TIMER_MS)),
    maxWaitingMs: v.optional(wholeNumber(1, MAX_TIMER_MS)),
    maxStarting: v.optional(wholeNumber(1)),
  },
  FORMER_LAUNCH_NAMES,
);

interface TakeOptions {
  signal?: AbortSignal | undefined;
}

const TakeOptionsSchema = optionsOf<TakeOptions>({ signal });

export interface ClonePoolHealth {
  /** QEMUs that can be taken now. */
  waiting: number;
  /** QEMUs that are being started. */
  starting: number;
  taken: number;
  /** Taken VMs that have not ended. Those that were detached are not counted. */
  running: number;
  /** Calls of `take` that wait for a VM. */
  queued: number;
  /** VMs that were ended because their time was over. */
  expired: number;
  /** What all `take` together took, in ms, waiting included. */
  takeTimeMs: number;
  /** QEMUs that ended while they waited, or did not start. */
  lost: number;
  /** Why the last one was lost. */
  lastError?: MapramError;
}

/** So many failures in a row are not an accident: the pool stops to refill until the next `take`. */
const MAX_FAILURES = 3;

export class ClonePool extends EventEmitter<{ ready: []; lost: [MapramError] }> implements AsyncDisposable {
  readonly #factory: CloneFactory;
  readonly #file: string;
  readonly #limits: PoolLimits;
  readonly #watch: Disposable;
  readonly #stop = new AbortController();
  readonly #ready: WaitingClone[] = [];
  readonly #starts = new Set<Promise<void>>();
  readonly #claims: { resolve: (clone: WaitingClone) => void; reject: (error: unknown) => void }[] = [];
  /** Taken, and neither ended nor detached. */
  #running = 0;
  #expired = 0;
  #takeTimeMs = 0;
  #failures = 0;
  #taken = 0;
  #lost = 0;
  #lastError: MapramError | undefined;

  private constructor(factory: CloneFactory, file: string, limits: PoolLimits) {
    super();
    this.#factory = factory;
    this.#file = file;
    this.#limits = limits;
    this.#watch = factory.watch();
  }

  /**
   * Opens the snapshot and begins to fill the pool; `take` may be called at once.
   *
   * @throws MapramError as `resume` does for what can be told before a QEMU is started
   */
  static async open(options: ClonePoolOptions): Promise<ClonePool> {
    assertOptions('ClonePool.open', ClonePoolOptionsSchema, options);
    const { file } = options;
    return runOperation(`opening a pool of ${file}`, file, options, async (guarded) => {
      guarded.signal?.throwIfAborted();
      const pool = new ClonePool(await CloneFactory.open(guarded), file, options);
      pool.#refill();
      return pool;
    });
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
      running: this.#running,
      queued: this.#claims.length,
      expired: this.#expired,
      takeTimeMs: this.#takeTimeMs,
      lost: this.#lost,
      ...defined({ lastError: this.#lastError }),
    };
  }

  /** Resolves when as many QEMUs wait as the pool is to hold. Rejects when they do not start. */
  async filled(): Promise<void> {
    while (this.#ready.length < this.#limits.size) {
      this.#refill();
      if (this.#starts.size === 0) throw this.#lastError;
      await Promise.race(this.#starts);
    }
  }

  /**
   * Takes a waiting QEMU and gives it the device state; another one is started in its place. The VM is the caller's from
   * then on, and so is its folder (`directory`), which is removed when the VM is ended, unless `keep` was given.
   *
   * @throws MapramError of the start when no QEMU can be started; `CANCELLED` when `signal` fires, or the pool is closed
   */
  async take(options: TakeOptions = {}): Promise<ResumedVm> {
    assertOptions('take', TakeOptionsSchema, options);
    return runOperation(`taking a VM from the pool of ${this.#file}`, this.#file, options, ({ signal }) =>
      this.#take(signal),
    );
  }

  async #take(signal: AbortSignal | undefined): Promise<ResumedVm> {
    signal?.throwIfAborted();
    if (this.#stop.signal.aborted) throw closed();
    const startedAt = performance.now();
    this.#failures = 0;
    const { maxQueued = Number.POSITIVE_INFINITY } = this.#limits;
    const free = this.#mayTake() && this.#ready.length > 0;
    if (!free && this.#claims.length >= maxQueued) {
      throw new MapramError(
        'BUSY',
        `taking a VM from the pool of ${this.#file}: ${this.#claims.length} others wait for one already`,
        { path: this.#file },
      );
    }
    const clone = await this.#claim(signal);
    this.#taken += 1;
    try {
      const vm = await this.#factory.complete(clone, startedAt, signal);
      this.#takeTimeMs += performance.now() - startedAt;
      this.#follow(vm);
      return vm;
    } catch (error) {
      this.#running -= 1;
      throw error;
    } finally {
      // Not before: the start of the next QEMU would compete with this load.
      this.#serve();
    }
  }

  /** Sees to it that a VM ends in time, and that the next one is given when it has. */
  #follow(vm: ResumedVm): void {
    const { maxLifetimeMs } = this.#limits;
    const expire = () => {
      this.#expired += 1;
      vm.close().catch((error: unknown) => this.#noteLoss(error));
    };
    const timer = maxLifetimeMs === undefined ? undefined : setTimeout(expire, maxLifetimeMs).unref();
    void Promise.race([vm.exited, vm.detached]).then(() => {
      clearTimeout(timer);
      this.#running -= 1;
      this.#serve();
    });
  }

  #mayTake(): boolean {
    return this.#running < (this.#limits.maxTaken ?? Number.POSITIVE_INFINITY);
  }

  /** Gives waiting QEMUs to those who wait for one, as far as the limit allows, and has others started. */
  #serve(): void {
    while (this.#mayTake() && this.#claims.length > 0 && this.#ready.length > 0) {
      this.#claims[0]?.resolve(this.#ready.shift() as WaitingClone);
    }
    this.#refill();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Ends the QEMUs that wait. Those that were taken go on, in their folders. */
  async close(): Promise<void> {
    if (this.#stop.signal.aborted) return;
    this.#stop.abort(closed());
    for (const { reject } of this.#claims.splice(0)) reject(closed());
    await Promise.all(this.#starts);
    const ready = this.#ready.splice(0);
    await Promise.all(ready.map((clone) => clone[Symbol.asyncDispose]()));
    this.#watch[Symbol.dispose]();
    await this.#factory[Symbol.asyncDispose]();
    if (this.#factory.temporary) this.#factory.removeDirectory();
    this.#factory.guard[Symbol.dispose]();
  }

  #claim(signal: AbortSignal | undefined): Promise<WaitingClone> {
    const next = this.#mayTake() ? this.#ready.shift() : undefined;
    if (next !== undefined) {
      this.#running += 1;
      return Promise.resolve(next);
    }
    return new Promise((resolve, reject) => {
      const settle = () => {
        signal?.removeEventListener('abort', onAbort);
        const index = this.#claims.indexOf(claim);
        if (index >= 0) this.#claims.splice(index, 1);
      };
      const claim = {
        resolve: (clone: WaitingClone) => {
          // At once, so that no more are given than the limit allows.
          this.#running += 1;
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
    const {
      size,
      maxTaken = Number.POSITIVE_INFINITY,
      maxStarting = Number.POSITIVE_INFINITY,
    } = this.#limits;
    // No more than can be taken are started for those who wait.
    const wanted = size + Math.min(this.#claims.length, Math.max(0, maxTaken - this.#running));
    while (
      !this.#stop.signal.aborted &&
      this.#failures < MAX_FAILURES &&
      this.#starts.size < maxStarting &&
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
    if (claim !== undefined && this.#mayTake()) {
      claim.resolve(clone);
      return;
    }
    this.#ready.push(clone);
    const { maxWaitingMs } = this.#limits;
    const renew = () => void this.#renew(clone).catch((error: unknown) => this.#noteLoss(error));
    const timer = maxWaitingMs === undefined ? undefined : setTimeout(renew, maxWaitingMs).unref();
    clone.waiting.process.exited
      .then(() => clearTimeout(timer))
      .then(() => this.#dropEnded(clone))
      .catch((error: unknown) => this.#noteLoss(error));
    this.emit('ready');
  }

  /** One that has waited for too long makes room for another. */
  async #renew(clone: WaitingClone): Promise<void> {
    const index = this.#ready.indexOf(clone);
    if (index < 0) return;
    this.#ready.splice(index, 1);
    this.#expired += 1;
    await clone[Symbol.asyncDispose]();
    this.#refill();
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
