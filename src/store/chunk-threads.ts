/** Threads that encode and decode chunks: as many as there are processors, each with one job at a time. */

import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { defined } from '../defined.js';
import { errorReason } from '../errors.js';
import { threadArguments, workerScript } from '../io/worker-script.js';
import type {
  ChunkJob,
  ChunkReply,
  ChunkRequest,
  ChunkThreadData,
  DecodedChunks,
  DecodeJob,
  EncodedChunks,
  EncodeJob,
} from './chunk-protocol.js';
import type { StoreKeys } from './store-keys.js';

/** Beyond this the disk or the network is what a push waits for. */
const MAXIMUM_THREADS = 8;

/** A job has failed. `code` is the errno name, `offset` the place in the file. */
export class ChunkJobError extends Error {
  constructor(
    message: string,
    readonly code?: string,
    readonly offset?: number,
  ) {
    super(message);
  }
}

interface Waiting {
  readonly job: ChunkJob;
  resolve(result: EncodedChunks | DecodedChunks): void;
  reject(error: Error): void;
}

export class ChunkThreads implements AsyncDisposable {
  readonly #queue: Waiting[] = [];
  readonly #threads: ChunkThread[];

  constructor(keys: StoreKeys | undefined, count = Math.min(availableParallelism(), MAXIMUM_THREADS)) {
    const data: ChunkThreadData = defined({ keys });
    this.#threads = Array.from({ length: count }, () => new ChunkThread(data, () => this.#queue.shift()));
  }

  get count(): number {
    return this.#threads.length;
  }

  run(job: EncodeJob): Promise<EncodedChunks>;
  run(job: DecodeJob): Promise<DecodedChunks>;
  run(job: ChunkJob): Promise<EncodedChunks | DecodedChunks> {
    return new Promise((resolve, reject) => {
      this.#queue.push({ job, resolve, reject });
      this.#threads.find(({ idle }) => idle)?.take();
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#threads.map((thread) => thread.close()));
  }
}

class ChunkThread {
  readonly #worker: Worker;
  readonly #exited: Promise<void>;
  #current: Waiting | undefined;
  #ended = false;

  constructor(
    workerData: ChunkThreadData,
    private readonly next: () => Waiting | undefined,
  ) {
    this.#worker = new Worker(workerScript('chunk-worker', import.meta.url), {
      name: 'mapram-chunks',
      ...threadArguments(),
      workerData,
    });
    this.#worker.on('message', (reply: ChunkReply) => this.#finish(reply));
    this.#worker.on('error', (error) =>
      this.#finish({ kind: 'failed', message: `a thread died: ${errorReason(error)}` }),
    );
    this.#exited = new Promise((resolve) => {
      this.#worker.once('exit', () => {
        this.#ended = true;
        this.#finish({ kind: 'failed', message: 'a thread ended unexpectedly' });
        resolve();
      });
    });
  }

  get idle(): boolean {
    return this.#current === undefined;
  }

  /** Takes the next job, if there is one. */
  take(): void {
    this.#current = this.next();
    if (this.#current === undefined) return;
    if (this.#ended) {
      this.#finish({ kind: 'failed', message: 'a thread has ended' });
      return;
    }
    const { job } = this.#current;
    const transfer =
      job.kind === 'decode' && job.bytes.buffer instanceof ArrayBuffer ? [job.bytes.buffer] : [];
    this.#worker.postMessage(job satisfies ChunkRequest, transfer);
  }

  /** By asking: terminating a thread that loads a native library would abort the process. */
  async close(): Promise<void> {
    if (!this.#ended) this.#worker.postMessage({ kind: 'close' } satisfies ChunkRequest);
    await this.#exited;
  }

  #finish(reply: ChunkReply): void {
    const current = this.#current;
    if (current === undefined) return;
    if (reply.kind === 'done') current.resolve(reply.result);
    else current.reject(new ChunkJobError(reply.message, reply.code, reply.offset));
    this.take();
  }
}
