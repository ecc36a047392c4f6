/**
 * Receives a migration stream from connected sockets, a thread each: its pages go to their slots of the file, its device
 * state comes back as bytes. No page passes through the main thread.
 *
 *     main channel       main → start (configuration, RAM blocks) → [waits for place] → pages … → tail
 *     multifd channel    channel (number, uuid) → [waits for place] → packets … → done
 *
 * The threads wait for each other at every SYNC of the multifd channels, see `SyncBarrier`.
 */
import { Worker } from 'node:worker_threads';
import { errorReason, MapramError, type MapramErrorCode } from '../errors.js';
import { shutdownIfSocket } from '../io/unix-socket.js';
import { workerScript } from '../io/worker-script.js';
import { ConnectionState } from '../multifd/connection-state.js';
import type { PagePlace } from '../multifd/page-placer.js';
import { SyncBarrier } from '../multifd/sync-barrier.js';
import type { StreamStart, StreamTail } from './main-channel-receiver.js';
import type { PlacedPages } from './source.js';
import type { FromReceiver, ReceiverWorkerData, ToReceiver } from './stream-receiver-protocol.js';

export type { StreamStart, StreamTail } from './main-channel-receiver.js';

/** Pages that have come. */
export type ReceivedPages = Omit<PlacedPages, 'bytesBeforeStop'>;

export interface StreamReceiverOptions {
  /** How many connections there will be: one for a plain stream, one more than there are multifd channels otherwise. */
  connections: number;
  /** Of the stream, for errors. */
  name: string;
  /** After how many ms without a byte on any connection the stream counts as stuck; never by default. */
  silenceMs?: number;
}

/** A thread and what it turned out to be. */
interface Connection {
  worker: Worker;
  exited: Promise<void>;
  /** `main`, or the number of the multifd channel, once known. */
  role?: 'main' | number;
  /** Whether it has said its last word. */
  finished: boolean;
}

export class StreamReceiver {
  readonly #options: StreamReceiverOptions;
  readonly #state: ConnectionState;
  readonly #barrier: SyncBarrier;
  readonly #connections: Connection[];
  #sockets: readonly number[] = [];
  #uuid: Uint8Array | undefined;
  readonly #start = deferred<StreamStart>();
  readonly #tail = deferred<StreamTail>();
  #received: { start?: StreamStart; tail?: StreamTail } = {};
  #touched: Uint8Array = new Uint8Array(0);
  #placed = false;
  #done = 0;
  #failed = false;
  #silence: NodeJS.Timeout | undefined;

  /** Starts the threads, so that they are there when the sender connects. */
  constructor(options: StreamReceiverOptions) {
    this.#options = options;
    const { connections } = options;
    this.#state = ConnectionState.create(connections);
    this.#barrier = SyncBarrier.create(connections);
    this.#connections = Array.from({ length: connections }, (_, connection) => this.#startThread(connection));
  }

  /**
   * @param sockets descriptors, in any order; pipes non-blocking, since they cannot be shut down. They stay the caller's to close, after `dispose`.
   * @param uuid 16 raw bytes that the multifd channels must show; anything by default
   */
  connected(sockets: readonly number[], uuid?: Uint8Array): void {
    const { silenceMs } = this.#options;
    this.#uuid = uuid;
    this.#sockets = sockets;
    if (this.#failed) return;
    for (const [connection, { worker }] of this.#connections.entries())
      worker.postMessage({ type: 'connected', socket: sockets[connection] as number } satisfies ToReceiver);
    if (silenceMs !== undefined) this.#watchForSilence(silenceMs);
  }

  /** Configuration and RAM blocks, once they have arrived and all channels have said who they are. */
  start(): Promise<StreamStart> {
    return this.#start.promise;
  }

  /** Device state and all that follows, once all connections have ended. All pages are then in the file. */
  tail(): Promise<StreamTail> {
    return this.#tail.promise;
  }

  /** Tells where pages go. Before this no page is read. */
  place(place: PagePlace): void {
    this.#placed = true;
    const touched = new SharedArrayBuffer(place.blocks.length);
    this.#touched = new Uint8Array(touched);
    this.#tell({ type: 'place', place, pageSize: place.blocks[0]?.pageSize ?? 4096, touched });
  }

  /** Whether any page of that block has come by the main channel. */
  hasReceived(block: number): boolean {
    return this.#touched[block] === 1;
  }

  /** What the connections have placed so far; those of channels by their numbers. */
  counters(): ReceivedPages {
    const channels = this.#connections.flatMap(({ role }, connection) =>
      typeof role === 'number' ? [{ id: role, bytes: this.#state.get(connection, 'bytes') }] : [],
    );
    return {
      bytes: this.#state.total('bytes'),
      normalPages: this.#state.total('normalPages'),
      duplicatePages: this.#state.total('duplicatePages'),
      channels: channels.sort((one, other) => one.id - other.id),
    };
  }

  /** Ends all connections: the sender finds them broken, the threads end. */
  abort(): void {
    this.#fail(new MapramError('CANCELLED', `receiving ${this.#options.name}: cancelled`));
  }

  /** Ends connections and threads, in whatever state they are. */
  async dispose(): Promise<void> {
    clearInterval(this.#silence);
    this.abort();
    await Promise.all(this.#connections.map(({ exited }) => exited));
  }

  #startThread(connection: number): Connection {
    const { name, connections } = this.#options;
    const workerData: ReceiverWorkerData = {
      connection,
      name,
      state: this.#state.buffer,
      barrier: this.#barrier.buffer,
      connections,
    };
    const worker = new Worker(workerScript('stream-receiver-worker', import.meta.url), { workerData });
    const started: Connection = {
      worker,
      finished: false,
      exited: new Promise((resolve) => {
        worker.once('exit', () => {
          if (!started.finished)
            this.#fail(new MapramError('MIGRATION', `receiving ${name}: a receiving thread ended early`));
          resolve();
        });
      }),
    };
    worker.on('message', (message: FromReceiver) => this.#take(message, started));
    worker.on('error', (error) => {
      this.#fail(new MapramError('MIGRATION', `receiving ${name}: ${errorReason(error)}`, { cause: error }));
    });
    return started;
  }

  #take(message: FromReceiver, from: Connection): void {
    const { name, connections } = this.#options;
    from.finished = ['tail', 'done', 'aborted', 'error'].includes(message.type);
    switch (message.type) {
      case 'main':
        if (this.#connections.some(({ role }) => role === 'main')) {
          this.#fail(new MapramError('FORMAT', `receiving ${name}: a second main channel connected`));
          return;
        }
        from.role = 'main';
        break;
      case 'channel':
        this.#identify(message, from);
        break;
      case 'start':
        this.#received.start = message;
        break;
      case 'tail':
        this.#received.tail = message;
        break;
      case 'done':
        this.#done++;
        break;
      case 'error':
        this.#fail(
          new MapramError(message.code as MapramErrorCode, message.message, {
            ...(message.offset === undefined ? {} : { offset: message.offset }),
          }),
        );
        return;
    }
    const { start, tail } = this.#received;
    if (start && this.#connections.every(({ role }) => role !== undefined)) this.#start.resolve(start);
    if (tail && this.#done === connections - 1) this.#tail.resolve(tail);
  }

  #identify({ channel, uuid }: Extract<FromReceiver, { type: 'channel' }>, from: Connection): void {
    const { name, connections } = this.#options;
    const expected = this.#uuid;
    const refuse = (problem: string) =>
      this.#fail(
        new MapramError('FORMAT', `receiving channel ${channel} of ${name}: ${problem}`, { offset: 0 }),
      );
    if (channel >= connections - 1) {
      refuse(
        `its initial packet, at offset 0, numbers it ${channel}, but there are ${connections - 1} channels`,
      );
    } else if (this.#connections.some(({ role }) => role === channel)) {
      refuse('a second connection has that number in its initial packet, at offset 0');
    } else if (expected && Buffer.compare(uuid, expected) !== 0) {
      refuse(
        `its initial packet, at offset 0, is for the VM ${uuidText(uuid)}, not for ${uuidText(expected)}`,
      );
    } else from.role = channel;
  }

  /** The first failure counts; everything after it is a consequence. */
  #fail(error: Error): void {
    if (this.#failed) return;
    this.#failed = true;
    clearInterval(this.#silence);
    this.#start.reject(error);
    this.#tail.reject(error);
    this.#barrier.abort();
    for (const socket of this.#sockets) shutdownIfSocket(socket);
    // A thread that waits for its place is not woken by the socket.
    this.#tell({
      type: 'place',
      place: { name: '', path: '', direct: false, blocks: [] },
      pageSize: 4096,
      touched: new SharedArrayBuffer(0),
    });
  }

  #tell(message: ToReceiver): void {
    for (const { worker } of this.#connections) worker.postMessage(message);
  }

  #watchForSilence(silenceMs: number): void {
    const { connections } = this.#options;
    let received = -1;
    let since = performance.now();
    this.#silence = setInterval(
      () => {
        const activities = Array.from({ length: connections }, (_, index) => this.#state.activity(index));
        const now = this.#state.total('received');
        const waitsForUs = this.#received.start !== undefined && !this.#placed;
        if (now !== received || waitsForUs || activities.includes('working')) {
          received = now;
          since = performance.now();
        } else if (performance.now() - since >= silenceMs && activities.includes('reading')) {
          this.#fail(
            this.#silentError(
              activities.map((activity) => activity === 'reading'),
              silenceMs,
            ),
          );
        }
      },
      Math.min(1000, silenceMs / 4),
    );
    this.#silence.unref();
  }

  #silentError(silent: boolean[], silenceMs: number): MapramError {
    const { name } = this.#options;
    const places = this.#connections.flatMap(({ role }, connection) => {
      if (!silent[connection]) return [];
      const who =
        role === 'main'
          ? 'the main channel'
          : role === undefined
            ? `connection ${connection}`
            : `channel ${role}`;
      return [`${who} since offset ${this.#state.get(connection, 'received')}`];
    });
    return new MapramError(
      'MIGRATION',
      `receiving ${name}: nothing came for ${silenceMs / 1000} s, silent are ${places.join(', ')}`,
    );
  }
}

function uuidText(uuid: Uint8Array): string {
  const hex = Buffer.from(uuid).toString('hex');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
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
