import { MapramError } from '../errors.js';

/**
 * Packets of multifd channels over sockets. All integers are big-endian.
 *
 * ```text
 * initial packet, 64 bytes              data packet, 320 + 8 * page_count bytes, then the payload
 * off  width                            off  width
 *   0  be32  magic 0x11223344             0  be32  magic 0x11223344
 *   4  be32  version 1                    4  be32  version 1
 *   8  16    uuid of the VM               8  be32  flags
 *  24  u8    channel number              12  be32  pages_alloc
 *  25  39    unused                      16  be32  normal_pages
 *                                        20  be32  next_packet_size: bytes of payload
 *                                        24  be64  packet_num
 *                                        32  be32  zero_pages        from 9.0 on
 *                                        36  28    unused
 *                                        64  256   RAM block, NUL-terminated
 *                                       320  be64  offset[page_count]: normal pages, then zero pages
 * ```
 *
 * `page_count` is 512 KiB / page size, and the array always has that many entries.
 */
export const MULTIFD_MAGIC = 0x11223344;
const MULTIFD_VERSION = 1;
export const MULTIFD_INITIAL_PACKET_BYTES = 64;

/** What to call a channel that has no other name. */
const CHANNEL = 'a multifd channel';

/** What one packet carries at most, and the unit in which QEMU hands out work to channels. */
export const MULTIFD_PACKET_PAYLOAD_BYTES = 512 * 1024;

const FIXED_BYTES = 320;
const BLOCK_NAME_AT = 64;

const MultifdFlag = {
  SYNC: 0x01,
  /** Mask of the compression method. */
  METHOD: 0x3e,
  DEVICE_STATE: 0x40,
} as const;

/** Compression methods by their bits in the flags. */
const METHODS: Readonly<Record<number, MultifdMethod>> = {
  0: 'none',
  2: 'zlib',
  4: 'zstd',
  8: 'qpl',
  16: 'uadk',
  32: 'qatzip',
};

export type MultifdMethod = 'none' | 'zlib' | 'zstd' | 'qpl' | 'uadk' | 'qatzip';

export interface MultifdInitialPacket {
  /** 16 raw bytes, zeros for a VM without uuid. */
  uuid: Uint8Array;
  /** Number of the channel, from 0. */
  channel: number;
}

export interface MultifdPacketHeader {
  /** Whether the receiver must wait, after this packet, until all channels and the main channel are as far. */
  sync: boolean;
  /** How the payload is compressed. Says nothing in packets without normal pages. */
  method: MultifdMethod;
  /** Counts over all channels; ascending within one. */
  packetNumber: bigint;
  /** Name of the RAM block. Empty in packets without pages. */
  block: string;
  /** Byte offsets in the block of the pages in the payload, in its order. */
  normalOffsets: number[];
  /** Byte offsets in the block of pages that are zero. */
  zeroOffsets: number[];
  /** Bytes that follow this header on the channel. */
  payloadBytes: number;
}

/** Length of a data packet's header, whatever its counts say: 1344 bytes for pages of 4 KiB. */
export function multifdHeaderBytes(pageSize: number): number {
  return FIXED_BYTES + 8 * multifdPagesAPacket(pageSize);
}

/** How many pages a packet names at most: 128 for pages of 4 KiB. */
export function multifdPagesAPacket(pageSize: number): number {
  return MULTIFD_PACKET_PAYLOAD_BYTES / pageSize;
}

export function encodeMultifdInitialPacket({ uuid, channel }: MultifdInitialPacket): Uint8Array {
  if (uuid.byteLength !== 16) throw new RangeError(`a uuid has 16 bytes, not ${uuid.byteLength}`);
  const bytes = new Uint8Array(MULTIFD_INITIAL_PACKET_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, MULTIFD_MAGIC);
  view.setUint32(4, MULTIFD_VERSION);
  bytes.set(uuid, 8);
  bytes[24] = channel;
  return bytes;
}

/** @throws MapramError `FORMAT` when `bytes`, 64 of them, are no initial packet of version 1 */
export function decodeMultifdInitialPacket(bytes: Uint8Array, name = CHANNEL): MultifdInitialPacket {
  const view = viewOf(bytes, MULTIFD_INITIAL_PACKET_BYTES, name);
  checkIdentity(view, name);
  return { uuid: Uint8Array.from(bytes.subarray(8, 24)), channel: view.getUint8(24) };
}

/**
 * A data packet's header. For a packet that only synchronises leave both lists of offsets empty.
 *
 * @param payloadBytes what will follow; must be 0 without normal pages
 */
export function encodeMultifdPacketHeader(packet: MultifdPacketHeader, pageSize: number): Uint8Array {
  const { normalOffsets, zeroOffsets, payloadBytes } = packet;
  const limit = multifdPagesAPacket(pageSize);
  const pages = normalOffsets.length + zeroOffsets.length;
  if (pages > limit) throw new RangeError(`a multifd packet takes at most ${limit} pages, not ${pages}`);
  if (normalOffsets.length === 0 && payloadBytes !== 0) {
    throw new RangeError('a multifd packet without normal pages has no payload');
  }
  const name = new TextEncoder().encode(packet.block);
  if (name.byteLength > 255)
    throw new RangeError(`the RAM block name ${packet.block} takes more than 255 bytes`);
  const bytes = new Uint8Array(multifdHeaderBytes(pageSize));
  const view = new DataView(bytes.buffer);
  const method = Number(Object.keys(METHODS).find((bits) => METHODS[Number(bits)] === packet.method));
  view.setUint32(0, MULTIFD_MAGIC);
  view.setUint32(4, MULTIFD_VERSION);
  view.setUint32(8, (packet.sync ? MultifdFlag.SYNC : 0) | (pages === 0 ? 0 : method));
  view.setUint32(12, pages === 0 ? 0 : limit);
  view.setUint32(16, normalOffsets.length);
  view.setUint32(20, payloadBytes);
  view.setBigUint64(24, packet.packetNumber);
  view.setUint32(32, zeroOffsets.length);
  bytes.set(name, BLOCK_NAME_AT);
  for (const [index, offset] of [...normalOffsets, ...zeroOffsets].entries()) {
    view.setBigUint64(FIXED_BYTES + index * 8, BigInt(offset));
  }
  return bytes;
}

/**
 * Reads a data packet's header of any QEMU from 7.2 on.
 *
 * `payloadBytes` is 0 for packets without normal pages, whose size field older QEMUs leave as it was. Offsets
 * are checked to be multiples of the page size and safe integers; whether they are inside the block is for the
 * caller to check.
 *
 * @param bytes `multifdHeaderBytes(pageSize)` bytes
 * @param name of the channel, for errors
 * @throws MapramError `FORMAT` for what cannot be a packet, `UNSUPPORTED` for device state and unknown methods
 */
export function decodeMultifdPacketHeader(
  bytes: Uint8Array,
  pageSize: number,
  name = CHANNEL,
): MultifdPacketHeader {
  const view = viewOf(bytes, multifdHeaderBytes(pageSize), name);
  checkIdentity(view, name);
  const limit = multifdPagesAPacket(pageSize);
  const flags = view.getUint32(8);
  if ((flags & MultifdFlag.DEVICE_STATE) !== 0) {
    throw new MapramError('UNSUPPORTED', `reading ${name}: it carries device state of VFIO devices`);
  }
  const normal = view.getUint32(16);
  const zero = view.getUint32(32);
  const allocated = view.getUint32(12);
  if (allocated > limit) throw bad(name, `a packet with room for ${allocated} pages instead of ${limit}`);
  if (normal > limit) throw bad(name, `a packet with ${normal} pages, more than ${limit}`);
  if (zero > limit - normal) throw bad(name, `a packet with ${zero} zero pages, more than ${limit - normal}`);
  const method = METHODS[flags & MultifdFlag.METHOD];
  if (method === undefined || (flags & ~(MultifdFlag.SYNC | MultifdFlag.METHOD)) !== 0) {
    throw new MapramError('UNSUPPORTED', `reading ${name}: a packet has the flags 0x${flags.toString(16)}`);
  }
  // Without normal pages QEMU up to 8.2 leaves the size of an earlier packet, and nothing follows.
  const payloadBytes = normal === 0 ? 0 : view.getUint32(20);
  // A method may make pages larger, but not by much.
  const expected = normal * pageSize;
  if (method === 'none' ? payloadBytes !== expected : payloadBytes > 2 * expected + 1024) {
    throw bad(name, `a packet of ${normal} pages has ${payloadBytes} bytes of payload`);
  }
  const offsets = Array.from({ length: normal + zero }, (_, index) => {
    const offset = Number(view.getBigUint64(FIXED_BYTES + index * 8));
    if (!Number.isSafeInteger(offset + pageSize) || offset % pageSize !== 0)
      throw bad(name, `a page at offset ${offset}`);
    return offset;
  });
  return {
    sync: (flags & MultifdFlag.SYNC) !== 0,
    method,
    packetNumber: view.getBigUint64(24),
    block: normal + zero === 0 ? '' : blockName(bytes, name),
    normalOffsets: offsets.slice(0, normal),
    zeroOffsets: offsets.slice(normal),
    payloadBytes,
  };
}

function blockName(bytes: Uint8Array, name: string): string {
  const field = Uint8Array.from(bytes.subarray(BLOCK_NAME_AT, FIXED_BYTES));
  const end = field.indexOf(0);
  if (end === -1) throw bad(name, 'a packet whose RAM block name has no end');
  return new TextDecoder().decode(field.subarray(0, end));
}

function checkIdentity(view: DataView, name: string): void {
  const magic = view.getUint32(0);
  if (magic !== MULTIFD_MAGIC)
    throw bad(name, `a packet with magic 0x${magic.toString(16)} instead of 0x11223344`);
  const version = view.getUint32(4);
  if (version !== MULTIFD_VERSION)
    throw bad(name, `a packet of version ${version} instead of ${MULTIFD_VERSION}`);
}

function viewOf(bytes: Uint8Array, length: number, name: string): DataView {
  if (bytes.byteLength < length)
    throw bad(name, `a packet of ${bytes.byteLength} bytes instead of ${length}`);
  return new DataView(bytes.buffer, bytes.byteOffset, length);
}

function bad(name: string, problem: string): MapramError {
  return new MapramError('FORMAT', `reading ${name}: ${problem}; the sender is not QEMU or bytes were lost`);
}
