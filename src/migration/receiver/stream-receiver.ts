/**
 * Receives a migration stream from connected sockets, a thread each: its pages go to their slots of the file, its device
 * state comes back as bytes. No page passes through the main thread.
 *
 *     main channel       main → start (configuration, RAM blocks) → [waits for place] → pages … → tail
 *     multifd channel    channel (number, uuid) → [waits for place] → packets … → done
 *
 * The threads wait for each other at every SYNC of the multifd channels, see `SyncBarrier`.
 */

import type { PagePlace } from '../../channels/page-placer.js';
import { ConnectionState } from '../../channels/socket/connection-state.js';
import { SyncBarrier } from '../../channels/sync-barrier.js';
import { deferred } from '../../deferred.js';
import { defined } from '../../defined.js';
import { MapramError } from '../../errors.js';
import { shutdownIfSocket } from '../../io/socket/unix-socket.js';
import { workerScript } from '../../io/worker-script.js';
import type { StreamStart } from '../../stream/stream-frame.js';
import { openThread, type WorkerThread } from '../../threads/thread-pool.js';
import { ThreadFailedError } from '../../threads/thread-protocol.js';
import type { PlacedPages } from '../sources/migration-source.js';
import type { Identity, PageTarget, ReceiverRequest, StreamTail } from './stream-receiver-protocol.js';

export type { StreamTail } from './stream-receiver-protocol.js';

const WORKER = workerScript('stream-receiver-worker', import.meta.url);

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
  readonly thread: WorkerThread<ReceiverRequest, Identity | StreamStart | StreamTail | undefined>;
  /** Known once it has sent its first bytes: `main`, or the number of the multifd channel. */
  role?: 'main' | number;
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
  readonly #target = deferred<PageTarget>();
  #received: { start?: StreamStart; tail?: StreamTail } = {};
  #ended: Promise<unknown> = Promise.resolve();
  #touched: Uint8Array = new Uint8Array(0);
  #placed = false;
  #done = 0;
  #failed = false;
  #silence: NodeJS.Timeout | undefined;

  /** Starts the threads, so that they are there when the sender connects. */
  constructor(options: StreamReceiverOptions) {
    this.#options = options;
    const { connections } = options;
    this.#state = new ConnectionState(connections);
    this.#barrier = new SyncBarrier(connections);
    this.#connections = Array.from({ length: connections }, () => ({ thread: openThread(WORKER) }));
  }

  /**
   * @param sockets descriptors, in any order; pipes non-blocking, since they cannot be shut down. They stay the caller's to close, after `dispose`.
   * @param uuid 16 raw bytes that the multifd channels must show; anything by default
   * @param refuse see `ReceiverSetup`
   */
  connected(sockets: readonly number[], uuid?: Uint8Array, refuse = false): void {
    const { silenceMs } = this.#options;
    this.#uuid = uuid;
    this.#sockets = sockets;
    if (this.#failed) return;
    this.#ended = Promise.all(this.#connections.map((_, connection) => this.#receive(connection, refuse)));
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
    this.#target.resolve({ place, pageSize: place.blocks[0]?.pageSize ?? 4096, touched });
  }

  /** Whether any page of that block has come by the main channel. */
  hasReceived(block: number): boolean {
    return this.#touched[block] === 1;
  }

  /** What the connections have placed so far; those of channels by their numbers. */
  counters(): ReceivedPages {
    const channels = this.#connections.flatMap(({ role }, connection) =>
      typeof role === 'number' ? [{ id: role, bytes: this.#state.counter(connection, 'bytes') }] : [],
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
    await this.#ended;
    await Promise.all(this.#connections.map(({ thread }) => thread.release()));
  }

  /** One connection from its first byte to its last. Never throws: the first failure ends all. */
  async #receive(connection: number, refuse: boolean): Promise<void> {
    const { name, connections } = this.#options;
    const socket = this.#sockets[connection] as number;
    const from = this.#connections[connection] as Connection;
    const setup = {
      connection,
      socket,
      name,
      state: this.#state.buffer,
      barrier: this.#barrier.buffer,
      connections,
      refuse,
    };
    try {
      this.#identify((await from.thread.request({ kind: 'connect', setup })) as Identity, from);
      if (from.role === 'main')
        this.#received.start = (await from.thread.request({ kind: 'start' })) as StreamStart;
      const { start } = this.#received;
      if (start && this.#connections.every(({ role }) => role !== undefined)) this.#start.resolve(start);
      const target = await this.#target.promise;
      const tail = await from.thread.request({ kind: 'receive', ...target });
      if (from.role === 'main') this.#received.tail = tail as StreamTail;
      this.#done++;
      if (this.#received.tail && this.#done === connections) this.#tail.resolve(this.#received.tail);
    } catch (error) {
      this.#fail(error instanceof ThreadFailedError ? this.#failureOf(error) : (error as Error));
    }
  }

  #failureOf(error: ThreadFailedError): MapramError | undefined {
    const { code, message, offset } = error.failure;
    // Somebody else has failed before and will say so.
    if (code === 'CANCELLED') return undefined;
    if (code === undefined)
      return new MapramError('MIGRATION', `receiving ${this.#options.name}: ${message}`, { cause: error });
    return new MapramError(code, message, defined({ offset }));
  }

  #identify(identity: Identity, from: Connection): void {
    const { name, connections } = this.#options;
    if (identity.role === 'main') {
      if (this.#connections.some(({ role }) => role === 'main'))
        throw new MapramError('FORMAT', `receiving ${name}: a second main channel connected`);
      from.role = 'main';
      return;
    }
    const { role: channel, uuid } = identity;
    const expected = this.#uuid;
    const refuse = (problem: string) => {
      throw new MapramError('FORMAT', `receiving channel ${channel} of ${name}: ${problem}`, { offset: 0 });
    };
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
  #fail(error: Error | undefined): void {
    if (this.#failed || error === undefined) return;
    this.#failed = true;
    clearInterval(this.#silence);
    this.#start.reject(error);
    this.#tail.reject(error);
    this.#target.reject(error);
    this.#barrier.abort();
    for (const socket of this.#sockets) shutdownIfSocket(socket);
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
      return [`${who} since offset ${this.#state.counter(connection, 'received')}`];
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
