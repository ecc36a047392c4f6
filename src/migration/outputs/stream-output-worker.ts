/** The thread of one connection of a stream that is made of memory. See stream-output.ts. */

import { ChannelState } from '../../channels/file/channel-state.js';
import { type MemoryPages, MemorySupply, type SuppliedMemory } from '../../channels/file/memory-supply.js';
import { type PayloadEncoder, payloadEncoder } from '../../channels/socket/payload-encoder.js';
import { SocketChannelSender } from '../../channels/socket/socket-channel-sender.js';
import { MapramError } from '../../errors.js';
import { writeAll } from '../../io/file/sequential-io.js';
import { native } from '../../io/native.js';
import { PageBitmap } from '../../mapped-ram/bitmap.js';
import { multifdPagesAPacket } from '../../stream/multifd-packet.js';
import { BLOCK_NAME_BYTES, RecordEncoder, ZERO_RECORD_BYTES } from '../../stream/page-records.js';
import type { ThreadService } from '../../threads/thread-protocol.js';
import type { StreamOutputRequest, StreamOutputSetup } from './stream-output-protocol.js';

type PassRequest = Extract<StreamOutputRequest, { kind: 'pages' }>;

/** What both kinds of connection have. */
class Connection {
  readonly state: ChannelState;
  readonly supply: MemorySupply;

  constructor(readonly setup: StreamOutputSetup) {
    this.state = new ChannelState(setup.connections, setup.state);
    this.supply = new MemorySupply(setup.blocks);
  }

  /** Blocks until all is written, and then as the bandwidth demands. */
  write(bytes: Uint8Array): void {
    writeAll(this.setup.fd, bytes, () => this.throwIfStopped());
  }

  throwIfStopped(): void {
    if (this.state.stopped) throw new MapramError('CANCELLED', 'it was told to stop');
  }

  count(pages: MemoryPages, bytes: number, normalPages: number, duplicatePages: number): void {
    const { connection } = this.setup;
    this.state.count(connection, 'bytes', bytes);
    this.state.count(connection, 'normalPages', normalPages);
    this.state.count(connection, 'duplicatePages', duplicatePages);
    if (pages.offsets.length + pages.zeroOffsets.length > 0) this.state.spend(bytes);
  }
}

/** See `StreamOutputRequest`. */
class Claims {
  readonly #bitmaps: ReadonlyMap<string, PageBitmap> | undefined;

  constructor({ blocks }: StreamOutputSetup, claims: PassRequest['claims']) {
    this.#bitmaps =
      claims &&
      new Map(
        blocks.map(({ idstr, length, pageSize }, index) => [
          idstr,
          new PageBitmap(length / pageSize, claims[index] as SharedArrayBuffer),
        ]),
      );
  }

  /** Those of `offsets` that nobody else has sent in this pass. */
  take({ idstr, pageSize }: SuppliedMemory, offsets: number[]): number[] {
    const bitmap = this.#bitmaps?.get(idstr);
    return bitmap ? offsets.filter((offset) => bitmap.claimRange(offset / pageSize, 1)) : offsets;
  }
}

/** Records on the main channel: of all pages, or with multifd of the zero pages alone. */
class MainChannel {
  /** A zero page's record is the longest in relation to what it stands for. */
  readonly #records: Buffer;

  constructor(private readonly connection: Connection) {
    const { pageSize } = connection.setup;
    const pages = multifdPagesAPacket(pageSize);
    this.#records = Buffer.alloc(2 * BLOCK_NAME_BYTES + pages * (pageSize + ZERO_RECORD_BYTES));
  }

  pass({ selected, claims }: PassRequest): void {
    const { setup, supply } = this.connection;
    const claimed = new Claims(setup, claims);
    const multifd = setup.connections > 1;
    const encoder = new RecordEncoder();
    for (let chunk = 0; chunk < supply.chunks; chunk++) {
      this.connection.throwIfStopped();
      const pages = supply.read(chunk, selected, setup.zeroPages !== 'pages') as MemoryPages;
      const { block, offsets, data } = pages;
      const zeroOffsets = claimed.take(block, pages.zeroOffsets);
      let end = 0;
      for (const offset of zeroOffsets) {
        end = encoder.zeroPages(this.#records, end, block.idstr, offset, 1, block.pageSize);
      }
      const normal = multifd ? [] : offsets;
      for (const [index, offset] of normal.entries()) {
        const page = data.subarray(index * block.pageSize, (index + 1) * block.pageSize);
        end = encoder.pages(this.#records, end, block.idstr, offset, page, block.pageSize);
      }
      if (end > 0) this.connection.write(this.#records.subarray(0, end));
      this.connection.count(pages, end, normal.length, zeroOffsets.length);
    }
  }
}

/** Packets on a multifd channel. Each piece of memory goes out on whichever channel is free. */
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
    const { setup, supply, state } = this.connection;
    const claimed = new Claims(setup, claims);
    const { method } = setup.compression;
    for (;;) {
      this.connection.throwIfStopped();
      const pages = supply.read(state.takeChunk(), selected, setup.zeroPages !== 'pages');
      if (pages === undefined) return;
      const { block } = pages;
      const normalOffsets = claimed.take(block, pages.offsets);
      const data = normalOffsets.length === pages.offsets.length ? pages.data : dataOf(pages, normalOffsets);
      const zeroOffsets = setup.zeroPages === 'packets' ? pages.zeroOffsets : [];
      if (normalOffsets.length + zeroOffsets.length > 0) {
        const payload = this.#encoder && data.length > 0 ? await this.#encoder.encode(data) : data;
        this.#sender.packet({ block: block.idstr, normalOffsets, zeroOffsets, method }, payload);
      }
      this.connection.count(pages, this.#takeWritten(), normalOffsets.length, zeroOffsets.length);
    }
  }

  synchronize(): void {
    this.#sender.synchronize();
    this.connection.state.count(this.connection.setup.connection, 'bytes', this.#takeWritten());
  }

  close(): void {
    this.#encoder?.close();
  }

  #takeWritten(): number {
    const written = this.#written;
    this.#written = 0;
    return written;
  }
}

/** The data of some of the pages. */
function dataOf({ block, offsets, data }: MemoryPages, wanted: readonly number[]): Buffer {
  const kept = new Set(wanted);
  return Buffer.concat(
    offsets.flatMap((offset, index) =>
      kept.has(offset) ? [data.subarray(index * block.pageSize, (index + 1) * block.pageSize)] : [],
    ),
  );
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
    close: () => channel?.close(),
  };
}

native();
