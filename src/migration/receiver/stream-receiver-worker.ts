/**
 * The thread of one connection of a migration stream. Which one it is shows in the first four bytes: the main channel
 * begins with the stream's magic, a multifd channel with an initial packet. See stream-receiver.ts.
 */

import { constants } from 'node:fs';
import { readFull, SocketInput } from '../../channels/file/channel-input.js';
import { PagePlacer } from '../../channels/page-placer.js';
import { ConnectionState } from '../../channels/socket/connection-state.js';
import { receiveSocketChannel } from '../../channels/socket/socket-channel-receiver.js';
import { SyncBarrier } from '../../channels/sync-barrier.js';
import { arrivalDigester } from '../../checksums/arrival-digester.js';
import { deferred } from '../../deferred.js';
import { defined } from '../../defined.js';
import { errorReason, MapramError } from '../../errors.js';
import { O_DIRECT } from '../../io/file/direct-io-support.js';
import { openFile, releaseFiles } from '../../io/file/open-file.js';
import { writeAll } from '../../io/file/sequential-io.js';
import { native } from '../../io/native.js';
import {
  decodeMultifdInitialPacket,
  MULTIFD_INITIAL_PACKET_BYTES,
  MULTIFD_MAGIC,
} from '../../stream/multifd-packet.js';
import { encodeShut } from '../../stream/return-path.js';
import type { StreamStart } from '../../stream/stream-frame.js';
import type { ThreadService } from '../../threads/thread-protocol.js';
import { receiveMainChannel } from './main-channel-receiver.js';
import type {
  Identity,
  PageTarget,
  ReceiverRequest,
  ReceiverSetup,
  StreamTail,
} from './stream-receiver-protocol.js';

const MAGIC_BYTES = 4;

type Result = Identity | StreamStart | StreamTail | undefined;

export function open(): ThreadService<ReceiverRequest, Result> {
  let connection: Connection | undefined;
  return {
    carryOut(request) {
      if (request.kind === 'connect') connection = new Connection(request.setup);
      return connection?.carryOut(request);
    },
    close: () => connection?.close(),
  };
}

class Connection {
  readonly #setup: ReceiverSetup;
  readonly #state: ConnectionState;
  readonly #barrier: SyncBarrier;
  readonly #input: SocketInput;
  readonly #fds: number[] = [];
  #placer: PagePlacer | undefined;
  /** What was read to tell a main channel from others. */
  #magic: Uint8Array = Buffer.alloc(0);
  /** Of a multifd channel. */
  #channelName: string | undefined;
  #mainChannel: Promise<StreamTail> | undefined;
  readonly #target = deferred<PageTarget>();

  constructor(setup: ReceiverSetup) {
    this.#setup = setup;
    this.#state = new ConnectionState(setup.connections, setup.state);
    this.#barrier = new SyncBarrier(setup.connections, setup.barrier);
    this.#input = new SocketInput(setup.socket, this.#state, setup.connection, () => this.#throwIfAborted());
  }

  async carryOut(request: ReceiverRequest): Promise<Result> {
    try {
      if (request.kind === 'connect') return this.#identify();
      if (request.kind === 'start') return await this.#start();
      this.#throwIfAborted();
      this.#state.setActivity(this.#setup.connection, 'working');
      this.#target.resolve(request);
      return await (this.#mainChannel ?? this.#receiveChannel());
    } catch (error) {
      throw this.#failure(error);
    }
  }

  async close(): Promise<void> {
    this.#target.reject(this.#aborted());
    await this.#mainChannel?.catch(() => {});
    await this.#placer?.close();
    this.#state.setActivity(this.#setup.connection, 'ended');
    releaseFiles(this.#fds);
  }

  #identify(): Identity {
    const { name, connection } = this.#setup;
    const input = this.#input;
    const head = Buffer.alloc(MULTIFD_INITIAL_PACKET_BYTES);
    const magic = head.subarray(0, MAGIC_BYTES);
    if (readFull(input, magic) < MAGIC_BYTES) {
      throw new MapramError(
        'FORMAT',
        `receiving ${name}: connection ${connection} was closed after ${input.position} bytes`,
      );
    }
    if (magic.readUInt32BE() !== MULTIFD_MAGIC) {
      this.#magic = magic;
      return { role: 'main' };
    }
    const unnamed = `a multifd channel of ${name}`;
    if (readFull(input, head.subarray(MAGIC_BYTES)) < head.length - MAGIC_BYTES) {
      throw new MapramError(
        'FORMAT',
        `receiving ${unnamed}: its initial packet ends after ${input.position} bytes`,
      );
    }
    const { channel, uuid } = decodeMultifdInitialPacket(head, unnamed);
    this.#channelName = `channel ${channel} of ${name}`;
    this.#state.setActivity(connection, 'holding');
    return { role: channel, uuid };
  }

  /** Reads on when it is known where pages go. */
  async #start(): Promise<StreamStart> {
    const started = deferred<StreamStart>();
    this.#mainChannel = this.#receiveMain((start) => started.resolve(start));
    this.#mainChannel.catch(started.reject);
    return await started.promise;
  }

  async #receiveMain(onStart: (start: StreamStart) => void): Promise<StreamTail> {
    const { name, connections, socket, refuse } = this.#setup;
    const multifd = connections > 1;
    const tail = await receiveMainChannel({
      input: this.#input,
      head: this.#magic,
      name,
      place: async (start) => {
        this.#state.setActivity(this.#setup.connection, 'holding');
        onStart(start);
        const target = await this.#target.promise;
        return { placer: this.#openPlacer(target, name), touched: new Uint8Array(target.touched) };
      },
      ...defined({
        synchronize: multifd ? () => this.#synchronize(`the main channel of ${name}`) : undefined,
      }),
      ...defined({ onDeviceState: refuse ? () => writeAll(socket, encodeShut(true)) : undefined }),
      onProgress: (placer) => this.#report(placer),
    });
    if (multifd) this.#barrier.leave();
    return tail;
  }

  async #receiveChannel(): Promise<undefined> {
    const name = this.#channelName as string;
    const target = await this.#target.promise;
    const placer = this.#openPlacer(target, name);
    await receiveSocketChannel({
      input: this.#input,
      name,
      pageSize: target.pageSize,
      placer,
      synchronize: () => this.#synchronize(name),
      onPacket: () => this.#report(placer),
    });
    this.#barrier.leave();
  }

  #openPlacer({ place: { path, direct, blocks } }: PageTarget, name: string): PagePlacer {
    const fd = openFile(path, constants.O_RDWR | (direct ? O_DIRECT : 0));
    this.#fds.push(fd);
    const digester = arrivalDigester(blocks, this.#setup.connections);
    this.#placer = new PagePlacer(fd, { name, direct, blocks, ...defined({ digester }) });
    return this.#placer;
  }

  #synchronize(who: string): void {
    const { connection } = this.#setup;
    this.#state.setActivity(connection, 'holding');
    const arrival = this.#barrier.arrive();
    this.#state.setActivity(connection, 'working');
    if (arrival === 'aborted') throw this.#aborted();
    if (arrival === 'deserted') {
      const { position } = this.#input;
      throw new MapramError(
        'FORMAT',
        `receiving ${who}: at offset ${position} it waits for the other connections, but one of them has ended before that synchronisation`,
        { offset: position },
      );
    }
  }

  #report({ counters }: PagePlacer): void {
    for (const counter of ['bytes', 'normalPages', 'duplicatePages'] as const)
      this.#state.setCounter(this.#setup.connection, counter, counters[counter]);
  }

  #throwIfAborted(): void {
    if (this.#barrier.aborted) throw this.#aborted();
  }

  #aborted(): MapramError {
    return new MapramError('CANCELLED', `receiving ${this.#setup.name}: cancelled`);
  }

  /** What is wrong here, if not somebody else gave up before: then it is a consequence. The others give up too. */
  #failure(error: unknown): MapramError {
    if (this.#barrier.aborted) return this.#aborted();
    this.#barrier.abort();
    if (error instanceof MapramError) return error;
    const { name } = this.#setup;
    return new MapramError(
      'IO',
      `receiving ${name}: ${errorReason(error)} at offset ${this.#input.position}`,
    );
  }
}

native();
