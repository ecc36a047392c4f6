/**
 * A RAM block as the channels see it: memory that is a file, and a row of slots in the image.
 *
 * ```
 * memory file  |<- offset ->|page 0|page 1|page 2| ... |page n-1|
 *                              |                           |
 * image        |<- pagesOffset ->|page 0|page 1|page 2| ... |page n-1|
 * bitmap        bit i = page i is in the image (byte i >> 3, bit i & 7)
 * ```
 *
 * Blocks are worked on in chunks: ranges of `chunkBytes` counted from the block's start. A chunk is what one channel takes at
 * a time. It covers a multiple of 32 pages, so no two channels ever write to the same 32-bit word of a bitmap.
 */

import type { DigestTable, DigestTableShape } from '../checksums/digest-table.js';
import { defined } from '../defined.js';
import { MapramError } from '../errors.js';
import type { MemoryFile } from '../io/memory/memory-map.js';
import type { ImageBlock } from '../mapped-ram/image.js';

interface NamedBlock {
  idstr: string;
  /** Bytes; a multiple of `pageSize`. */
  usedLength: number;
  /** Bytes of a guest page. */
  pageSize: number;
}

/** A RAM block whose memory is at hand. */
export interface MemoryBlock extends NamedBlock {
  memory: MemoryFile;
}

/** A RAM block's slots in an image. The memory in it is shared between all threads that place or read pages. */
export interface SlotBlock extends NamedBlock {
  /** Where page 0 lies in the image, absolute. */
  pagesOffset: number;
  /** At least one bit a page, a multiple of 8 bytes long. Written when saving, read when loading. */
  bitmap: SharedArrayBuffer;
  /** Saving: which space is reserved, see slot-allocation.ts. Whoever gives it releases what was not used. Absent: none is. */
  allocated?: SharedArrayBuffer;
  /** Filled with the digests of what is written, or for `digest` of what is in the image. */
  digests?: DigestTableShape;
}

/** What file channels work on: slots, and but for `digest` the memory whose pages they hold. */
export interface ChannelBlock extends SlotBlock {
  memory?: MemoryFile;
}

/** A block of an image whose pages are read: by its slots alone, into `memory`, or for `digests`. */
export function channelBlock(
  { idstr, usedLength, pageSize, pagesOffset, bitmap }: ImageBlock,
  { memory, digests }: { memory?: MemoryFile; digests?: DigestTable } = {},
): ChannelBlock {
  const bits = new SharedArrayBuffer(bitmapBytes(usedLength, pageSize));
  new Uint8Array(bits).set(bitmap.bytes);
  return {
    ...{ idstr, usedLength, pageSize, pagesOffset, bitmap: bits },
    ...defined({ memory, digests: digests?.shape }),
  };
}

/** Bytes of the bitmap of a block: one bit a page, in whole 64-bit words as QEMU stores it. */
export function bitmapBytes(usedLength: number, pageSize: number): number {
  return Math.ceil(usedLength / pageSize / 64) * 8;
}

/** Pages whose bits share a word. */
const PAGES_PER_WORD = 32;
/** Chunks may not cross the windows of a memory map (1 GiB): powers of two up to this size never do. */
export const MAXIMUM_CHUNK = 64 * 1024 ** 2;

/** The chunk size for I/O of `ioSize` bytes: a power of two that covers whole bitmap words and digests of every block. */
export function chunkBytesFor(blocks: readonly ChannelBlock[], ioSize: number): number {
  let chunk = 1;
  while (chunk < ioSize) chunk *= 2;
  for (const { pageSize, digests } of blocks) {
    while (chunk < pageSize * PAGES_PER_WORD || chunk < (digests?.chunkBytes ?? 0)) chunk *= 2;
  }
  if (chunk > MAXIMUM_CHUNK) {
    throw new MapramError(
      'USAGE',
      `opening file channels: an I/O size of ${ioSize} bytes is too large; use at most ${MAXIMUM_CHUNK}`,
    );
  }
  return chunk;
}

/** @throws MapramError `FORMAT` for a block whose numbers do not fit together. */
export function checkBlock({
  idstr,
  usedLength,
  pagesOffset,
  pageSize,
  bitmap,
  digests,
  memory,
}: ChannelBlock): void {
  const refuse = (problem: string) => {
    throw new MapramError('FORMAT', `opening file channels for RAM block ${idstr}: ${problem}`);
  };
  if (!Number.isInteger(Math.log2(pageSize)) || pageSize < 512 || pageSize > 2 ** 21) {
    refuse(`page size ${pageSize} is not a power of two between 512 and 2 MiB`);
  }
  const memoryOffset = memory?.offset ?? 0;
  for (const [what, value] of Object.entries({ usedLength, pagesOffset, memoryOffset })) {
    if (!Number.isSafeInteger(value) || value < 0 || value % pageSize !== 0) {
      refuse(`${what} ${value} is not a multiple of the page size ${pageSize}`);
    }
  }
  const needed = bitmapBytes(usedLength, pageSize);
  if (bitmap.byteLength < needed || bitmap.byteLength % 8 !== 0) {
    refuse(
      `its bitmap has ${bitmap.byteLength} bytes, ${needed} are needed for ${usedLength} bytes of memory`,
    );
  }
  if (digests && (digests.length !== usedLength || digests.chunkBytes % pageSize !== 0)) {
    refuse(`its digest table is for ${digests.length} bytes in chunks of ${digests.chunkBytes}`);
  }
}
