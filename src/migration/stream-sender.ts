/**
 * Plays a mapped-ram file as a migration stream over connected sockets, a thread each. The threads read the pages
 * with O_DIRECT; none passes through the main thread.
 */
import { Worker } from 'node:worker_threads';
import { errorReason, MapramError, type MapramErrorCode } from '../errors.js';
import { shutdownSocket } from '../io/unix-socket.js';
import { workerScript } from '../io/worker-script.js';
import type { MappedRamImage } from '../mapped-ram/image.js';
import type { PlacedBlock } from '../multifd/page-placer.js';
import { SenderState } from './sender-state.js';
import { type SyncMarks, streamPartsOf } from './stream-of-image.js';
import type { FromSender, SenderWorkerData } from './stream-sender-protocol.js';

export interface StreamSenderOptions {
  /** Of a file. */
  image: MappedRamImage;
  direct: boolean;
  /** Blocking descriptors: of the main channel, then of each multifd channel. They stay the caller's. */
  sockets: readonly number[];
  /** 16 raw bytes, of the destination. */
  uuid: Uint8Array;
  marks: SyncMarks;
  /** Whether the destination knows SWITCHOVER_START. */
  switchoverStart: boolean;
}

export interface SentPages {
  bytes: number;
  normalPages: number;
  duplicatePages: number;
  channels: { id: number; bytes: number }[];
}

export class StreamSender {
  readonly #options: StreamSenderOptions;
  readonly #state: SenderState;
  readonly #exited: Promise<unknown>;
  readonly #sent: Promise<void>;
  #error: Error | undefined;

  constructor(options: StreamSenderOptions) {
    this.#options = options;
    this.#state = SenderState.create(options.sockets.length);
    const threads = options.sockets.map((socket, connection) => this.#startThread(socket, connection));
    this.#exited = Promise.all(threads);
    this.#sent = this.#exited.then(() => {
      if (this.#error) throw this.#error;
    });
    this.#sent.catch(() => {});
  }

  /** Resolves when all connections have taken everything. Nothing is closed. */
  sent(): Promise<void> {
    return this.#sent;
  }

  counters(): SentPages {
    const connections = this.#options.sockets.map((_, connection) => this.#state.of(connection));
    const sum = (pick: (counts: (typeof connections)[number]) => number) =>
      connections.reduce((total, counts) => total + pick(counts), 0);
    return {
      bytes: sum(({ bytes }) => bytes),
      normalPages: sum(({ normalPages }) => normalPages),
      duplicatePages: sum(({ duplicatePages }) => duplicatePages),
      channels: connections.slice(1).map(({ bytes }, id) => ({ id, bytes })),
    };
  }

  /** Ends connections and threads, in whatever state they are. */
  async dispose(): Promise<void> {
    this.#fail(new MapramError('CANCELLED', `sending ${this.#options.image.path}: cancelled`));
    await this.#exited;
  }

  #startThread(socket: number, connection: number): Promise<void> {
    const { image, direct, sockets, uuid, marks, switchoverStart } = this.#options;
    const { path, descriptor } = image;
    if (descriptor === undefined) throw new MapramError('USAGE', `sending ${path}: it is not a file`);
    const workerData: SenderWorkerData = {
      connection,
      socket,
      path,
      descriptor,
      direct,
      pageSize: image.pageSize,
      blocks: sharedBlocks(image),
      state: this.#state.buffer,
      connections: sockets.length,
      role:
        connection === 0
          ? {
              kind: 'main',
              parts: streamPartsOf(image, { marks, switchoverStart }),
              withPages: marks === 'none',
            }
          : { kind: 'channel', channel: connection - 1, uuid, marks },
    };
    const worker = new Worker(workerScript('stream-sender-worker', import.meta.url), { workerData });
    let finished = false;
    worker.on('message', (message: FromSender) => {
      finished = true;
      if (message.type === 'error')
        this.#fail(new MapramError(message.code as MapramErrorCode, message.message));
    });
    worker.on('error', (error) => {
      this.#fail(new MapramError('MIGRATION', `sending ${path}: ${errorReason(error)}`, { cause: error }));
    });
    return new Promise((resolve) => {
      worker.once('exit', () => {
        if (!finished)
          this.#fail(new MapramError('MIGRATION', `sending ${path}: a sending thread ended early`));
        resolve();
      });
    });
  }

  /** The first failure counts; it ends all connections. */
  #fail(error: Error): void {
    if (this.#error) return;
    this.#error = error;
    this.#state.abort();
    for (const socket of this.#options.sockets) shutdownSocket(socket);
  }
}

/** The blocks of an image with bitmaps that threads can share. */
export function sharedBlocks(image: MappedRamImage): PlacedBlock[] {
  return image.blocks.map(({ idstr, usedLength, pageSize, pagesOffset, bitmap }) => {
    const shared = new SharedArrayBuffer(bitmap.bytes.byteLength);
    new Uint8Array(shared).set(bitmap.bytes);
    return { idstr, usedLength, pageSize, pagesOffset, bitmap: shared };
  });
}
