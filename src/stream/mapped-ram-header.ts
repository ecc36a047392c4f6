import { ByteBuilder } from './byte-builder.js';

/**
 * The mapped-ram header that follows each RAM block's name and length in a START section.
 *
 * ```text
 * off  width
 *   0  be32   version        1
 *   4  be64   page_size      target page size
 *  12  be64   bitmap_offset  absolute file offset
 *  20  be64   pages_offset   absolute file offset
 * ```
 */
export const MAPPED_RAM_HEADER_BYTES = 28;
export const MAPPED_RAM_VERSION = 1;

export interface MappedRamHeader {
  version: number;
  /** Bytes a page. */
  pageSize: number;
  /** Where the bitmap of written pages starts, from the start of the file (not of the stream). */
  bitmapOffset: number;
  /** Where page 0 lies, from the start of the file. */
  pagesOffset: number;
}

export function encodeMappedRamHeader(header: MappedRamHeader): Uint8Array {
  return new ByteBuilder(MAPPED_RAM_HEADER_BYTES)
    .uint32(header.version)
    .uint64(header.pageSize)
    .uint64(header.bitmapOffset)
    .uint64(header.pagesOffset)
    .finish();
}

/**
 * Reads 28 bytes without judging them, except that 64-bit values which a `number` cannot hold
 * come out as `Number.MAX_SAFE_INTEGER + 1` or more, so that any range check refuses them.
 */
export function decodeMappedRamHeader(bytes: Uint8Array): MappedRamHeader {
  const view = new DataView(bytes.buffer, bytes.byteOffset, MAPPED_RAM_HEADER_BYTES);
  return {
    version: view.getUint32(0),
    pageSize: Number(view.getBigUint64(4)),
    bitmapOffset: Number(view.getBigUint64(12)),
    pagesOffset: Number(view.getBigUint64(20)),
  };
}

/** Whether `pageSize` can be a target page size: a power of two from 512 bytes to 64 KiB. */
export function isPageSize(pageSize: number): boolean {
  return pageSize >= 512 && pageSize <= 65536 && Number.isInteger(Math.log2(pageSize));
}
