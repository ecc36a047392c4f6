/**
 * Threads for file channels. Starting one costs tens of milliseconds of processor time, mostly for loading code: whoever
 * knows that channels will be needed starts the threads early, while there is something to wait for, and lets several
 * sets of channels use them in turn.
 */
import { Worker } from 'node:worker_threads';
import { errorReason } from '../errors.js';
import { workerScript } from '../io/worker-script.js';
import type { ChannelFailure, ChannelReply, ChannelRequest, ChannelThreadData } from './channel-protocol.js';

export class ChannelThreads implements AsyncDisposable {
  readonly #idle: ChannelThread[] = [];
  readonly #all: ChannelThread[] = [];
  #closed = false;

  private constructor(private readonly data: ChannelThreadData) {}

  /** Starts `count` threads and does not wait for them. */
  static start(count: number, data: ChannelThreadData = {}): ChannelThreads {
    const threads = new ChannelThreads(data);
    for (let index = 0; index < count; index++) threads.#idle.push(threads.#startOne());
    return threads;
  }

  /** Threads that are there and have nothing to do. */
  get idle(): number {
    return this.#idle.length;
  }

  /** `count` threads for one set of channels; those that are not there yet are started. */
  borrow(count: number): ChannelThread[] {
    return Array.from({ length: count }, () => this.#idle.shift() ?? this.#startOne());
  }

  /** Takes threads back that have nothing to do. */
  giveBack(threads: readonly ChannelThread[]): void {
    for (const thread of threads) thread.rest();
    if (!this.#closed) this.#idle.push(...threads.filter(({ ended }) => !ended));
  }

  /** Ends all threads, the borrowed ones too. Never throws. */
  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all(this.#all.map((thread) => thread.close()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #startOne(): ChannelThread {
    const script = workerScript('file-channel-worker', import.meta.url);
    const thread = new ChannelThread<ChannelRequest>(script, this.data);
    this.#all.push(thread);
    return thread;
  }
}

export class ChannelFailedError extends Error {
  constructor(readonly failure: ChannelFailure) {
    super(failure.message);
  }
}

/**
 * One worker, with at most one request under way. It answers each with a `ChannelReply`, once before any when its code is
 * loaded, and ends when it is asked to `close`.
 */
export class ChannelThread<Request extends { kind: string } = ChannelRequest> {
  readonly #worker: Worker;
  readonly #loaded: Promise<void>;
  readonly #exited: Promise<void>;
  #ended = false;
  #settle: { resolve(): void; reject(error: ChannelFailedError): void } | undefined;

  constructor(script: URL, workerData: object = {}) {
    this.#loaded = new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
    });
    this.#loaded.catch(() => {});
    this.#worker = new Worker(script, { name: 'mapram-channel', workerData });
    this.#exited = new Promise((resolve) => {
      this.#worker.once('exit', () => {
        this.#ended = true;
        this.#finish({ message: 'its thread ended unexpectedly' });
        resolve();
      });
    });
    this.#worker.on('message', (reply: ChannelReply) => {
      this.#finish(reply.kind === 'failed' ? reply.failure : undefined);
    });
    this.#worker.on('error', (error) => this.#finish({ message: `its thread died: ${errorReason(error)}` }));
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** Resolves when the worker has done what was asked; rejects with a `ChannelFailedError`. */
  async request(request: Exclude<Request, { kind: 'close' | 'rest' }>): Promise<void> {
    await this.#loaded;
    await new Promise<void>((resolve, reject) => {
      if (this.#ended) {
        reject(new ChannelFailedError({ message: 'its thread has ended' }));
        return;
      }
      this.#settle = { resolve, reject };
      this.#worker.postMessage(request);
    });
  }

  /** Gives up what the last set of channels had. */
  rest(): void {
    if (!this.#ended) this.#worker.postMessage({ kind: 'rest' });
  }

  /**
   * Ends the thread by asking, after it has loaded its code: terminating a thread that is loading the native library would
   * abort the process.
   */
  async close(): Promise<void> {
    await this.#loaded.catch(() => {});
    if (!this.#ended) this.#worker.postMessage({ kind: 'close' });
    await this.#exited;
  }

  #finish(failure: ChannelFailure | undefined): void {
    const settle = this.#settle;
    this.#settle = undefined;
    if (failure === undefined) settle?.resolve();
    else settle?.reject(new ChannelFailedError(failure));
  }
}
