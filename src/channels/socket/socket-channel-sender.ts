/** The sending half of a multifd channel over a socket: packets that any QEMU from 7.2 on takes. */
import {
  encodeMultifdInitialPacket,
  encodeMultifdPacketHeader,
  type MultifdPacketHeader,
} from '../../stream/multifd-packet.js';

export class SocketChannelSender {
  readonly #write: (bytes: Uint8Array) => void;
  readonly #pageSize: number;
  readonly #nextPacketNumber: () => bigint;

  /**
   * @param write writes all of the bytes, blocking
   * @param nextPacketNumber counts the packets of all channels
   */
  constructor(write: (bytes: Uint8Array) => void, pageSize: number, nextPacketNumber: () => bigint) {
    this.#write = write;
    this.#pageSize = pageSize;
    this.#nextPacketNumber = nextPacketNumber;
  }

  /** The initial packet; before anything else. */
  introduce(channel: number, uuid: Uint8Array): void {
    this.#write(encodeMultifdInitialPacket({ uuid, channel }));
  }

  /** One packet: pages in whatever form `payload` has them, and zero pages; together at most as many as a packet names. */
  packet(
    packet: Pick<MultifdPacketHeader, 'block' | 'normalOffsets' | 'zeroOffsets' | 'method'>,
    payload: Uint8Array,
  ): void {
    this.#packet({ ...packet, payloadBytes: payload.length });
    if (payload.length > 0) this.#write(payload);
  }

  /** The receiver goes on behind this only when all channels and the main channel are there. */
  synchronize(): void {
    this.#packet({ sync: true });
  }

  #packet(packet: Partial<MultifdPacketHeader>): void {
    const header: MultifdPacketHeader = {
      sync: false,
      method: 'none',
      packetNumber: this.#nextPacketNumber(),
      block: '',
      normalOffsets: [],
      zeroOffsets: [],
      payloadBytes: 0,
      ...packet,
    };
    this.#write(encodeMultifdPacketHeader(header, this.#pageSize));
  }
}
