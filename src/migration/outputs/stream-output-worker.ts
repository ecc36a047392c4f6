/** The thread of one connection of a stream. See stream-output.ts. */

import { ChannelState } from '../../channels/file/channel-state.js';
import { ImagePages } from '../../channels/image-pages.js';
import { MemoryPages } from '../../channels/memory-pages.js';
import type { PageSource, PageStretch, SourcePages } from '../../channels/page-source.js';
import { RecordWriter } from '../../channels/record-writer.js';
import { type PayloadEncoder, payloadEncoder } from '../../channels/socket/payload-encoder.js';
import { SocketChannelSender } from '../../channels/socket/socket-channel-sender.js';
import { defined } from '../../defined.js';
import { MapramError } from '../../errors.js';
import { writeAll } from '../../io/file/sequential-io.js';
import { native } from '../../io/native.js';
import { PageBitmap } from '../../mapped-ram/bitmap.js';
import { multifdPagesAPacket } from '../../stream/multifd-packet.js';
import type { ThreadService } from '../../threads/thread-protocol.js';
import type { StreamOutputRequest, StreamOutputSetup } from './stream-output-protocol.js';

type PassRequest = Extract<StreamOutputRequest, { kind: 'pages' }>;

/** What both kinds of connection have. */
class Connection {
  readonly state: ChannelState;
  readonly pages: PageSource;

  constructor(readonly setup: StreamOutputSetup) {
    const { pages } = setup;
    this.state = new ChannelState(setup.connections, setup.state);
    this.pages = pages.kind === 'memory' ? new MemoryPages(pages) : new ImagePages(pages);
  }

  /** Blocks until all is written, and then as the bandwidth demands. */
  write(bytes: Uint8Array): void {
    this.throwIfStopped();
    writeAll(this.setup.fd, bytes, () => this.throwIfStopped());
  }

  throwIfStopped(): void {
    if (this.state.stopped) throw new MapramError('CANCELLED', 'it was told to stop');
  }

  count(bytes: number, normalPages: number, duplicatePages: number): void {
    const { connection } = this.setup;
    this.state.count(connection, 'bytes', bytes);
    this.state.count(connection, 'normalPages', normalPages);
    this.state.count(connection, 'duplicatePages', duplicatePages);
    if (bytes > 0) this.state.spend(bytes);
  }
}

/** See `StreamOutputRequest`. */
class Claims {
  readonly #bitmaps: ReadonlyMap<string, PageBitmap> | undefined;

  constructor({ pages }: StreamOutputSetup, claims: PassRequest['claims']) {
    this.#bitmaps =
      claims &&
      new Map(
        pages.blocks.map(({ idstr, usedLength, pageSize }, index) => [
          idstr,
          new PageBitmap(usedLength / pageSize, claims[index] as SharedArrayBuffer),
        ]),
      );
  }

  /** Without the pages that another connection has sent in this pass. */
  take({ block, offsets, data, zeros }: SourcePages): SourcePages {
    const bitmap = this.#bitmaps?.get(block.idstr);
    if (bitmap === undefined) return { block, offsets, data, zeros };
    const claim = (offset: number) => bitmap.claimRange(offset / block.pageSize, 1);
    const kept = offsets.map(claim);
    return {
      block,
      offsets: offsets.filter((_, index) => kept[index]),
      data: kept.every(Boolean) ? data : pagesWhere(kept, data, block.pageSize),
      zeros: zeros.filter(({ offset }) => claim(offset)),
    };
  }
}

function pagesWhere(kept: readonly boolean[], data: Uint8Array, pageSize: number): Uint8Array {
  return Buffer.concat(
    kept.flatMap((keep, index) => (keep ? [data.subarray(index * pageSize, (index + 1) * pageSize)] : [])),
  );
}

/** Records on the main channel: of all pages, or with multifd of the zero pages alone. */
class MainChannel {
  readonly #records: RecordWriter;

  constructor(private readonly connection: Connection) {
    this.#records = new RecordWriter((bytes) => connection.write(bytes));
  }

  pass({ selected, claims }: PassRequest): void {
    const { setup, pages } = this.connection;
    const claimed = new Claims(setup, claims);
    const contents = setup.connections === 1;
    for (let chunk = 0; chunk < pages.chunks; chunk++) {
      this.connection.throwIfStopped();
      const found = pages.read(chunk, { contents, ...defined({ selected }) }) as SourcePages;
      const sent = claimed.take(found);
      this.connection.count(this.#records.write(sent), sent.offsets.length, countPages(sent.zeros));
    }
  }
}

/** Packets on a multifd channel. Each chunk of pages goes out on whichever channel is free. */
class PacketChannel {
  readonly #sender: SocketChannelSender;
  readonly #encoder: PayloadEncoder | undefined;
  #written = 0;

  constructor(private readonly connection: Connection) {
    const { setup } = connection;
    this.#sender = new SocketChannelSender(
      (bytes) => {
        connection.write(bytes);
        this.#written += bytes.length;
      },
      setup.pageSize,
      () => connection.state.nextPacketNumber(),
    );
    const { method, level } = setup.compression;
    const channel = setup.connection - 1;
    if (method !== 'none') this.#encoder = payloadEncoder(method, level, `channel ${channel}`);
    this.#sender.introduce(channel, setup.uuid);
    connection.state.count(setup.connection, 'bytes', this.#takeWritten());
  }

  async pass({ selected, claims }: PassRequest): Promise<void> {
    const { setup, pages, state } = this.connection;
    const claimed = new Claims(setup, claims);
    for (;;) {
      this.connection.throwIfStopped();
      const found = pages.read(state.takeChunk(), { contents: true, ...defined({ selected }) });
      if (found === undefined) return;
      const sent = claimed.take(setup.zeroPages === 'packets' ? found : { ...found, zeros: [] });
      await this.#send(sent);
      this.connection.count(this.#takeWritten(), sent.offsets.length, countPages(sent.zeros));
    }
  }

  synchronize(): void {
    this.#sender.synchronize();
    this.connection.state.count(this.connection.setup.connection, 'bytes', this.#takeWritten());
  }

  close(): void {
    this.#encoder?.close();
  }

  /** In as many packets as it takes, pages with contents first. */
  async #send({ block, offsets, data, zeros }: SourcePages): Promise<void> {
    const { pageSize, idstr } = block;
    const { method } = this.connection.setup.compression;
    const most = multifdPagesAPacket(pageSize);
    const zeroOffsets = zeros.flatMap(({ offset, count }) =>
      Array.from({ length: count }, (_, page) => offset + page * pageSize),
    );
    const all = offsets.length + zeroOffsets.length;
    for (let first = 0; first < all; first += most) {
      const normal = offsets.slice(first, first + most);
      const zero = zeroOffsets.slice(
        Math.max(0, first - offsets.length),
        Math.max(0, first + most - offsets.length),
      );
      const pages = data.subarray(first * pageSize, (first + normal.length) * pageSize);
      const payload = this.#encoder && pages.length > 0 ? await this.#encoder.encode(pages) : pages;
      this.#sender.packet({ block: idstr, normalOffsets: normal, zeroOffsets: zero, method }, payload);
    }
  }

  #takeWritten(): number {
    const written = this.#written;
    this.#written = 0;
    return written;
  }
}

function countPages(zeros: readonly PageStretch[]): number {
  return zeros.reduce((total, { count }) => total + count, 0);
}

export function open(): ThreadService<StreamOutputRequest> {
  let connection: Connection | undefined;
  let main: MainChannel | undefined;
  let channel: PacketChannel | undefined;
  return {
    async carryOut(request) {
      switch (request.kind) {
        case 'setup':
          connection = new Connection(request.setup);
          if (request.setup.connection === 0) main = new MainChannel(connection);
          else channel = new PacketChannel(connection);
          break;
        case 'write':
          connection?.write(request.bytes);
          break;
        case 'pages':
          main?.pass(request);
          await channel?.pass(request);
          break;
        case 'synchronize':
          channel?.synchronize();
          break;
      }
    },
    close() {
      channel?.close();
      connection?.pages.close();
    },
  };
}

native();
