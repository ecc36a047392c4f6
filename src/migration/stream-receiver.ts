/**
 * Receives a migration stream from a connected socket in a worker thread: its pages go to their slots of the file,
 * its device state comes back as bytes. No page passes through the main thread.
 *
 *     worker: ready → start (configuration, RAM blocks) → [waits for place] → pages … → tail
 */
import { Worker } from 'node:worker_threads';
import { errorReason, MapramError, type MapramErrorCode } from '../errors.js';
import { shutdownSocket } from '../io/unix-socket.js';
import type { PagePlace, PlacedPages } from './source.js';
import {
  type FromReceiver,
  RECEIVER_COUNTERS,
  type ReceiverWorkerData,
  type ToReceiver,
} from './stream-receiver-protocol.js';

export type StreamStart = Extract<FromReceiver, { type: 'start' }>;
export type StreamTail = Extract<FromReceiver, { type: 'tail' }>;

export class StreamReceiver {
  readonly #worker: Worker;
  readonly #socket: number;
  readonly #counters: BigInt64Array;
  #touched: Uint8Array = new Uint8Array(0);
  readonly #start = deferred<StreamStart>();
  readonly #tail = deferred<StreamTail>();
  readonly #exited: Promise<void>;

  /**
   * @param socket a blocking descriptor of the connection; stays the caller's to close, after `dispose`
   * @param name of the stream, for errors
   */
  constructor(socket: number, name: string) {
    const shared = new SharedArrayBuffer(RECEIVER_COUNTERS.length * BigInt64Array.BYTES_PER_ELEMENT);
    this.#counters = new BigInt64Array(shared);
    this.#socket = socket;
    const workerData: ReceiverWorkerData = { socket, name, shared };
    this.#worker = new Worker(new URL('./stream-receiver-worker.js', import.meta.url), { workerData });
    const fail = (error: Error) => {
      this.#start.reject(error);
      this.#tail.reject(error);
    };
    this.#worker.on('message', (message: FromReceiver) => {
      if (message.type === 'start') this.#start.resolve(message);
      else if (message.type === 'tail') this.#tail.resolve(message);
      else if (message.type === 'error')
        fail(new MapramError(message.code as MapramErrorCode, message.message));
    });
    this.#worker.on('error', (error) => {
      fail(new MapramError('MIGRATION', `receiving ${name}: ${errorReason(error)}`, { cause: error }));
    });
    this.#exited = new Promise((resolve) => {
      this.#worker.once('exit', () => {
        fail(new MapramError('MIGRATION', `receiving ${name}: the receiving thread ended early`));
        resolve();
      });
    });
  }

  /** Configuration and RAM blocks, once they have arrived. */
  start(): Promise<StreamStart> {
    return this.#start.promise;
  }

  /** Device state and all that follows, once the stream has ended. */
  tail(): Promise<StreamTail> {
    return this.#tail.promise;
  }

  /** Tells where pages go. Nothing more is read from the socket before this. */
  place(place: PagePlace): void {
    const touched = new SharedArrayBuffer(place.blocks.length);
    this.#touched = new Uint8Array(touched);
    const message: ToReceiver = { type: 'place', place, touched };
    this.#worker.postMessage(message);
  }

  /** Whether any page of that block has come by the stream. */
  hasReceived(block: number): boolean {
    return this.#touched[block] === 1;
  }

  counters(): PlacedPages {
    const [bytes = 0, normalPages = 0, duplicatePages = 0] = Array.from(this.#counters, Number);
    return { bytes, normalPages, duplicatePages, channels: [] };
  }

  /** Ends the connection and the thread, in whatever state they are. */
  async dispose(): Promise<void> {
    shutdownSocket(this.#socket);
    // A thread that waits for its place is not woken by the socket.
    this.#worker.postMessage({
      type: 'place',
      place: { path: '', direct: false, blocks: [] },
      touched: new SharedArrayBuffer(0),
    });
    await this.#exited;
  }
}

function deferred<T>(): { promise: Promise<T>; resolve: (value: T) => void; reject: (error: Error) => void } {
  let resolve: (value: T) => void = () => {};
  let reject: (error: Error) => void = () => {};
  const promise = new Promise<T>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  // Whoever needs it awaits it; a failure that nobody waits for yet must not end the process.
  promise.catch(() => {});
  return { promise, resolve, reject };
}
