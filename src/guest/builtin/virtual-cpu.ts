import { Worker } from 'node:worker_threads';
import { MapramError } from '../../errors.js';
import { workerScript } from '../../io/worker-script.js';
import type { BuiltinGuestSettings } from './options.js';
import type { BlockExtent, WorkloadBlock, WorkloadState } from './workload.js';

/** Words of the memory that controls the thread. */
export const Control = { COMMAND: 0, LOGGING: 1, WORDS: 2 } as const;
export const Command = { STOP: 0, RUN: 1 } as const;

/** What the thread starts with. */
export interface CpuData {
  readonly blocks: readonly (Omit<WorkloadBlock, 'log'> & { readonly log: SharedArrayBuffer })[];
  readonly settings: BuiltinGuestSettings;
  readonly control: SharedArrayBuffer;
  /** The tick counter, for reading while the guest runs. */
  readonly counter: SharedArrayBuffer;
}

export type CpuRequest =
  | { readonly kind: 'fill' }
  | { readonly kind: 'load'; readonly state: WorkloadState }
  | { readonly kind: 'rehash'; readonly extents: readonly BlockExtent[] }
  | { readonly kind: 'step'; readonly ticks: number }
  /** Answered only after `halt`. */
  | { readonly kind: 'run' };

export interface CpuReply {
  readonly state: WorkloadState;
  /** After `rehash`. */
  readonly checksum?: number;
}

/**
 * The worker thread that runs the workload. It takes one request at a time, in order. It is never terminated from outside, only
 * asked to end.
 */
export class VirtualCpu {
  readonly #worker: Worker;
  readonly #control: Int32Array;
  readonly #counter: BigInt64Array;
  readonly #waiting: { resolve(reply: CpuReply): void; reject(error: Error): void }[] = [];
  readonly #ended: Promise<void>;
  #failure: Error | undefined;

  constructor(data: Pick<CpuData, 'blocks' | 'settings'>) {
    const control = new SharedArrayBuffer(Control.WORDS * 4);
    const counter = new SharedArrayBuffer(8);
    this.#control = new Int32Array(control);
    this.#counter = new BigInt64Array(counter);
    const workerData: CpuData = { ...data, control, counter };
    this.#worker = new Worker(workerScript('workload-thread', import.meta.url), { workerData });
    this.#worker.on('message', (reply: CpuReply) => this.#waiting.shift()?.resolve(reply));
    this.#worker.on('error', (error) => this.#fail(error));
    this.#ended = new Promise((resolve) => {
      this.#worker.once('exit', () => {
        this.#fail(new Error('the thread has ended'));
        resolve();
      });
    });
  }

  get ticks(): number {
    return Number(Atomics.load(this.#counter, 0));
  }

  set logging(on: boolean) {
    Atomics.store(this.#control, Control.LOGGING, on ? 1 : 0);
  }

  /** @throws MapramError `VM` when the thread has died */
  request(request: CpuRequest): Promise<CpuReply> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    if (request.kind === 'run') Atomics.store(this.#control, Control.COMMAND, Command.RUN);
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      this.#worker.postMessage(request);
    });
  }

  /** Ends a `run` after the tick that it is in. */
  halt(): void {
    Atomics.store(this.#control, Control.COMMAND, Command.STOP);
    Atomics.notify(this.#control, Control.COMMAND);
  }

  /** Ends the thread after what it is doing. */
  async end(): Promise<void> {
    this.halt();
    this.#worker.postMessage('quit');
    await this.#ended;
  }

  #fail(error: Error): void {
    this.#failure ??= new MapramError('VM', `running the builtin guest: ${error.message}`, { cause: error });
    for (const { reject } of this.#waiting.splice(0)) reject(this.#failure);
  }
}
