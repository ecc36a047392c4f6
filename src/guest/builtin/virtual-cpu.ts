import { MapramError } from '../../errors.js';
import { workerScript } from '../../io/worker-script.js';
import { SharedWords } from '../../threads/shared-words.js';
import { openThread, type WorkerThread } from '../../threads/thread-pool.js';
import type { ThreadFailedError } from '../../threads/thread-protocol.js';
import type { BuiltinGuestSettings } from './options.js';
import type { BlockExtent, WorkloadBlock, WorkloadState } from './workload.js';

/**
 * - `running`: ticks are made; set to 0, a `run` ends after the tick that it is in.
 * - `logging`: pages that are written are marked.
 * - `ticks`: the tick counter, for reading while the guest runs.
 */
export const CPU_WORDS = ['running', 'logging', 'ticks'] as const;
export type CpuWords = SharedWords<(typeof CPU_WORDS)[number]>;

/** What the thread starts with. */
export interface CpuData {
  readonly blocks: readonly (Omit<WorkloadBlock, 'log'> & { readonly log: SharedArrayBuffer })[];
  readonly settings: BuiltinGuestSettings;
  /** Of `CpuWords`. */
  readonly words: SharedArrayBuffer;
}

export type CpuRequest =
  /** The first one. */
  | { readonly kind: 'power-on'; readonly data: CpuData }
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

/** The thread that runs the workload, one request at a time, in order. */
export class VirtualCpu {
  readonly #thread: WorkerThread<CpuRequest, CpuReply>;
  readonly #words: CpuWords = new SharedWords(CPU_WORDS);

  constructor(data: Pick<CpuData, 'blocks' | 'settings'>) {
    this.#thread = openThread(workerScript('workload-thread', import.meta.url));
    // What keeps it from starting keeps it from all that follows.
    this.request({ kind: 'power-on', data: { ...data, words: this.#words.buffer } }).catch(() => {});
  }

  get ticks(): number {
    return this.#words.get('ticks');
  }

  set logging(on: boolean) {
    this.#words.set('logging', on ? 1 : 0);
  }

  /** @throws MapramError `VM` when the thread has died */
  async request(request: CpuRequest): Promise<CpuReply> {
    if (request.kind === 'run') this.#words.set('running', 1);
    try {
      return await this.#thread.request(request);
    } catch (error) {
      const { message } = error as ThreadFailedError;
      throw new MapramError('VM', `running the builtin guest: ${message}`, { cause: error });
    }
  }

  /** Ends a `run` after the tick that it is in. */
  halt(): void {
    this.#words.set('running', 0);
    this.#words.notify('running');
  }

  /** Gives the thread up after what it is doing. */
  async end(): Promise<void> {
    this.halt();
    await this.#thread.release();
  }
}
