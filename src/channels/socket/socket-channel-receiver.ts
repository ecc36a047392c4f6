/**
 * One multifd channel over a socket, from behind its initial packet to its end: packets of any QEMU from 7.2 on, whose
 * pages go to their slots.
 */
import { MapramError } from '../../errors.js';
import {
  decodeMultifdPacketHeader,
  type MultifdPacketHeader,
  multifdHeaderBytes,
} from '../../stream/multifd-packet.js';
import { type ChannelInput, readFull } from '../file/channel-input.js';
import type { PagePlacer } from '../page-placer.js';
import { type PayloadDecoder, payloadDecoder } from './payload-decoder.js';

/** QEMU allows 255; each is a thread here and a thread there. */
export const MAXIMUM_SOCKET_CHANNELS = 16;

export interface SocketChannelOptions {
  input: ChannelInput;
  /** For errors: which channel of which stream. */
  name: string;
  pageSize: number;
  placer: PagePlacer;
  /** Called at each SYNC, all pages before it being in the file; returns when the channel may go on, or throws. */
  synchronize(): void;
  /** Called after each packet. */
  onPacket?: () => void;
}

/**
 * Receives until the sender closes the channel, between two packets.
 *
 * @throws MapramError `FORMAT` for packets that contradict themselves or a channel cut short, naming channel and offset
 */
export async function receiveSocketChannel(options: SocketChannelOptions): Promise<void> {
  const { input, name, pageSize, placer, synchronize, onPacket } = options;
  const header = Buffer.alloc(multifdHeaderBytes(pageSize));
  const payloads = new PayloadReader(options);
  for (;;) {
    const start = input.position;
    const length = readFull(input, header);
    if (length === 0) break;
    if (length < header.length) throw cutShort(name, input.position, 'a packet header');
    await atOffset(start, async () => {
      const packet = decodeMultifdPacketHeader(header, pageSize, name);
      if (packet.normalOffsets.length > 0) await payloads.read(packet);
      await placeZeroPages(packet, placer, pageSize);
      // A SYNC of QEMU up to 8.2 may carry pages: they come first.
      if (packet.sync) {
        await placer.settle();
        synchronize();
      }
    });
    onPacket?.();
  }
  await placer.finish();
  payloads.close();
  onPacket?.();
}

/** Payloads in whatever form they come, into the placer's buffer. */
class PayloadReader {
  #decoder: { method: string; decoder: PayloadDecoder } | undefined;
  #scratch = Buffer.alloc(0);

  constructor(private readonly options: SocketChannelOptions) {}

  async read(packet: MultifdPacketHeader): Promise<void> {
    const { input, name, pageSize, placer } = this.options;
    const { method, normalOffsets, payloadBytes, block } = packet;
    const room = await placer.room(normalOffsets.length * pageSize);
    if (method === 'none') this.#fill(room);
    else {
      if (this.#scratch.length < payloadBytes) this.#scratch = Buffer.alloc(payloadBytes);
      const compressed = this.#scratch.subarray(0, payloadBytes);
      this.#fill(compressed);
      // One stream over all packets of the channel: the decoder keeps its state.
      this.#decoder ??= { method, decoder: payloadDecoder(method, name) };
      if (this.#decoder.method !== method) {
        throw new MapramError(
          'FORMAT',
          `receiving ${name}: the compression changes from ${this.#decoder.method} to ${method} at offset ${input.position}`,
        );
      }
      await this.#decoder.decoder.decode(compressed, room);
    }
    placer.filled(block, normalOffsets, pageSize);
  }

  close(): void {
    this.#decoder?.decoder.close();
  }

  #fill(into: Uint8Array): void {
    const { input, name } = this.options;
    if (readFull(input, into) < into.length) throw cutShort(name, input.position, 'the pages of a packet');
  }
}

async function placeZeroPages(
  { zeroOffsets, block }: MultifdPacketHeader,
  placer: PagePlacer,
  pageSize: number,
): Promise<void> {
  for (let index = 0; index < zeroOffsets.length; ) {
    const start = zeroOffsets[index] as number;
    let count = 1;
    while (zeroOffsets[index + count] === start + count * pageSize) count++;
    await placer.zeroPages(block, start, count * pageSize);
    index += count;
  }
}

/** Errors of one packet tell where it began. */
async function atOffset(offset: number, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    if (!(error instanceof MapramError) || error.offset !== undefined) throw error;
    throw new MapramError(error.code, `${error.message} (in the packet at offset ${offset})`, {
      offset,
      cause: error.cause,
    });
  }
}

function cutShort(name: string, offset: number, what: string): MapramError {
  return new MapramError('FORMAT', `receiving ${name}: it ends inside ${what} at offset ${offset}`, {
    offset,
  });
}
