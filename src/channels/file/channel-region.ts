/**
 * A region is one RAM block as the channels see it: memory that is a file, and a row of slots in the image.
 *
 * ```
 * memory file  |<- fdOffset ->|page 0|page 1|page 2| ... |page n-1|
 *                                |                           |
 * image        |<- pagesOffset ->|page 0|page 1|page 2| ... |page n-1|
 * bitmap        bit i = page i is in the image (byte i >> 3, bit i & 7)
 * ```
 *
 * Regions are worked on in chunks: ranges of `chunkBytes` counted from the region's start. A chunk is what one channel takes at
 * a time. It covers a multiple of 32 pages, so no two channels ever write to the same 32-bit word of a bitmap.
 */

import type { DigestTable } from '../../checksums/digest-table.js';
import { defined } from '../../defined.js';
import { MapramError } from '../../errors.js';
import type { ImageBlock } from '../../mapped-ram/image.js';

export interface ChannelRegion {
  /** Descriptor of the memory: tmpfs, hugetlbfs, memfd or any regular file. Stays the caller's. Unused for `digest`. */
  fd: number;
  /** Where the region begins in that file; a multiple of the page size. */
  fdOffset: number;
  /** Bytes; a multiple of `pageSize`. */
  length: number;
  /** Where page 0 lies in the image, absolute. */
  pagesOffset: number;
  /** Bytes of a guest page. */
  pageSize: number;
  /** At least one bit a page, a multiple of 8 bytes long. Written when saving, read when loading. */
  bitmap: SharedArrayBuffer;
  /** Saving: which space is reserved, see slot-allocation.ts. Whoever gives it releases what was not used. Absent: none is. */
  allocated?: SharedArrayBuffer;
  /** Filled with the digests of what is written, or for `digest` of what is in the image. */
  digests?: DigestTable;
  /** For error messages, usually the block's idstr. */
  name?: string;
}

/** The region of a block of an image whose pages are read: into `memory`, or for `digests` alone. */
export function regionOfImage(
  { idstr, usedLength, pageSize, pagesOffset, bitmap }: ImageBlock,
  options: { memory?: { fd: number; offset: number }; digests?: DigestTable },
): ChannelRegion {
  const { memory = { fd: -1, offset: 0 }, digests } = options;
  const bits = new SharedArrayBuffer(regionBitmapBytes(usedLength, pageSize));
  new Uint8Array(bits).set(bitmap.bytes);
  return {
    name: idstr,
    fd: memory.fd,
    fdOffset: memory.offset,
    length: usedLength,
    pagesOffset,
    pageSize,
    bitmap: bits,
    ...defined({ digests }),
  };
}

/** Bytes of the bitmap of a region: one bit a page, in whole 64-bit words as QEMU stores it. */
export function regionBitmapBytes(length: number, pageSize: number): number {
  return Math.ceil(length / pageSize / 64) * 8;
}

/** Pages whose bits share a word. */
const PAGES_PER_WORD = 32;
/** Chunks may not cross the windows of a memory map (1 GiB): powers of two up to this size never do. */
export const MAXIMUM_CHUNK = 64 * 1024 ** 2;

/** The chunk size for I/O of `ioSize` bytes: a power of two that covers whole bitmap words and digests of every region. */
export function chunkBytesFor(regions: readonly ChannelRegion[], ioSize: number): number {
  let chunk = 1;
  while (chunk < ioSize) chunk *= 2;
  for (const { pageSize, digests } of regions) {
    while (chunk < pageSize * PAGES_PER_WORD || chunk < (digests?.shape.chunkBytes ?? 0)) chunk *= 2;
  }
  if (chunk > MAXIMUM_CHUNK) {
    throw new MapramError(
      'USAGE',
      `opening file channels: an I/O size of ${ioSize} bytes is too large; use at most ${MAXIMUM_CHUNK}`,
    );
  }
  return chunk;
}

/** @throws MapramError `FORMAT` for a region whose numbers do not fit together. */
export function checkRegion(region: ChannelRegion): void {
  const { fdOffset, length, pagesOffset, pageSize, bitmap, digests, name = 'unnamed' } = region;
  const refuse = (problem: string) => {
    throw new MapramError('FORMAT', `opening file channels for region ${name}: ${problem}`);
  };
  if (!Number.isInteger(Math.log2(pageSize)) || pageSize < 512 || pageSize > 2 ** 21) {
    refuse(`page size ${pageSize} is not a power of two between 512 and 2 MiB`);
  }
  for (const [what, value] of Object.entries({ length, pagesOffset, fdOffset })) {
    if (!Number.isSafeInteger(value) || value < 0 || value % pageSize !== 0) {
      refuse(`${what} ${value} is not a multiple of the page size ${pageSize}`);
    }
  }
  if (bitmap.byteLength < regionBitmapBytes(length, pageSize) || bitmap.byteLength % 8 !== 0) {
    refuse(
      `its bitmap has ${bitmap.byteLength} bytes, ${regionBitmapBytes(length, pageSize)} are needed for ${length} bytes of memory`,
    );
  }
  if (digests && (digests.shape.length !== length || digests.shape.chunkBytes % pageSize !== 0)) {
    refuse(`its digest table is for ${digests.shape.length} bytes in chunks of ${digests.shape.chunkBytes}`);
  }
}
