/**
 * Plays a mapped-ram file as a migration stream over connected sockets, a thread each. The threads read the pages
 * with O_DIRECT; none passes through the main thread.
 */

import { ChannelState } from '../../channels/file/channel-state.js';
import type { PlacedBlock } from '../../channels/page-placer.js';
import { MapramError } from '../../errors.js';
import { shutdownSocket } from '../../io/socket/unix-socket.js';
import { workerScript } from '../../io/worker-script.js';
import type { MappedRamImage } from '../../mapped-ram/image.js';
import { openThread } from '../../threads/thread-pool.js';
import type { ThreadFailedError } from '../../threads/thread-protocol.js';
import { type SyncMarks, streamPartsOf } from './stream-of-image.js';
import type { SendRequest } from './stream-sender-protocol.js';

const WORKER = workerScript('stream-sender-worker', import.meta.url);

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
  readonly #state: ChannelState;
  readonly #ended: Promise<unknown>;
  readonly #sent: Promise<void>;
  #error: Error | undefined;

  constructor(options: StreamSenderOptions) {
    this.#options = options;
    this.#state = new ChannelState(options.sockets.length);
    const threads = options.sockets.map((socket, connection) => this.#send(socket, connection));
    this.#ended = Promise.all(threads);
    this.#sent = this.#ended.then(() => {
      if (this.#error) throw this.#error;
    });
    this.#sent.catch(() => {});
  }

  /** Resolves when all connections have taken everything. Nothing is closed. */
  sent(): Promise<void> {
    return this.#sent;
  }

  counters(): SentPages {
    const [, ...channels] = this.#options.sockets.map((_, thread) => this.#state.counter(thread, 'bytes'));
    const { bytes, normalPages, duplicatePages } = this.#state.totals();
    return {
      bytes,
      normalPages,
      duplicatePages,
      channels: channels.map((sent, id) => ({ id, bytes: sent })),
    };
  }

  /** Ends connections and threads, in whatever state they are. */
  async dispose(): Promise<void> {
    this.#fail(new MapramError('CANCELLED', `sending ${this.#options.image.path}: cancelled`));
    await this.#ended;
  }

  /** Resolves when the thread has done with the socket, however that was. */
  async #send(socket: number, connection: number): Promise<void> {
    const { image, direct, sockets, uuid, marks, switchoverStart } = this.#options;
    const { path, descriptor } = image;
    if (descriptor === undefined) throw new MapramError('USAGE', `sending ${path}: it is not a file`);
    const request: SendRequest = {
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
    const thread = openThread<SendRequest>(WORKER);
    try {
      await thread.request(request);
    } catch (error) {
      const { code, message } = (error as ThreadFailedError).failure;
      this.#fail(
        code === undefined
          ? new MapramError('MIGRATION', `sending ${path}: ${message}`, { cause: error })
          : new MapramError(code, message),
      );
    } finally {
      await thread.release();
    }
  }

  /** The first failure counts; it ends all connections. */
  #fail(error: Error): void {
    if (this.#error) return;
    this.#error = error;
    this.#state.stopped = true;
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
