import { type FileOffset, fileOffset } from '../branded.js';
import type { StreamConfiguration } from '../stream/configuration.js';
import { encodeConfiguration } from '../stream/configuration.js';
import { RAM_SECTION_IDSTR } from '../stream/format.js';
import { MAPPED_RAM_HEADER_BYTES } from '../stream/mapped-ram-header.js';
import { PageBitmap } from './bitmap.js';

/**
 * Where everything of a mapped-ram file lies. All offsets are from the start of the file.
 *
 * ```text
 * offset                 "QEVM", version, CONFIGURATION, START ram, MEM_SIZE word
 * record of block 0      str8 idstr, be64 used_length, [be64 guest address], 28-byte header
 * bitmapOffset           bitmap
 *                        gap, never written
 * pagesOffset            page 0, page 1, …        a multiple of 1 MiB
 * record of block 1      right after the last page of block 0
 * …
 * end                    EOS, footer, PART …, END, device sections, EOF, vmdescription
 * ```
 */
export interface BlockLayout {
  idstr: string;
  usedLength: number;
  pageCount: number;
  /** Where the block's record starts. */
  recordOffset: FileOffset;
  /** Where its 28-byte header starts. */
  headerOffset: FileOffset;
  bitmapOffset: FileOffset;
  bitmapBytes: number;
  /** Where page 0 lies; page `i` lies `i * pageSize` further. */
  pagesOffset: FileOffset;
  /** First byte behind the last page: the next block's record, or the end of the list. */
  pagesEnd: FileOffset;
}

/** Page areas start at multiples of this, counted from the start of the file. */
const PAGES_ALIGNMENT = 2 ** 20;

/** What a block's place depends on. */
export interface BlockShape {
  idstr: string;
  usedLength: number;
  /** Present when the record carries it (`x-ignore-shared`). */
  guestAddress?: number;
}

export function roundUp(value: number, alignment: number): number {
  return Math.ceil(value / alignment) * alignment;
}

/** Length of a block's record: name, length, guest address if it has one, header. */
export function recordBytes(block: BlockShape): number {
  const address = block.guestAddress === undefined ? 0 : 8;
  return 1 + new TextEncoder().encode(block.idstr).byteLength + 8 + address + MAPPED_RAM_HEADER_BYTES;
}

/** Where the first block's record starts in a stream that begins at `offset` of the file. */
export function firstRecordOffset(offset: FileOffset, configuration: StreamConfiguration): FileOffset {
  const header = 8;
  const sectionStart = 1 + 4 + 1 + RAM_SECTION_IDSTR.length + 4 + 4;
  const memSizeWord = 8;
  return fileOffset(
    offset + header + encodeConfiguration(configuration).byteLength + sectionStart + memSizeWord,
  );
}

/**
 * Places the blocks one after the other, as QEMU does.
 *
 * @param firstRecord where the first record starts, from the start of the file
 * @param pageSize bytes a page
 * @throws RangeError when a length is not a multiple of `pageSize` or the file would pass 2^53 - 1 bytes
 */
export function layoutBlocks(
  blocks: readonly BlockShape[],
  firstRecord: FileOffset,
  pageSize: number,
): BlockLayout[] {
  let recordOffset = firstRecord;
  return blocks.map((block) => {
    const { idstr, usedLength } = block;
    const pageCount = usedLength / pageSize;
    if (!Number.isInteger(pageCount)) {
      throw new RangeError(`RAM block ${idstr} has ${usedLength} bytes, not a multiple of ${pageSize}`);
    }
    const bitmapOffset = fileOffset(recordOffset + recordBytes(block));
    const bitmapBytes = PageBitmap.byteLength(pageCount);
    const pagesOffset = fileOffset(roundUp(bitmapOffset + bitmapBytes, PAGES_ALIGNMENT));
    const pagesEnd = fileOffset(pagesOffset + usedLength);
    if (!Number.isSafeInteger(pagesEnd)) {
      throw new RangeError(`RAM block ${idstr} would end at ${pagesEnd}, past the largest file offset`);
    }
    const layout: BlockLayout = {
      idstr,
      usedLength,
      pageCount,
      recordOffset,
      headerOffset: fileOffset(bitmapOffset - MAPPED_RAM_HEADER_BYTES),
      bitmapOffset,
      bitmapBytes,
      pagesOffset,
      pagesEnd,
    };
    recordOffset = pagesEnd;
    return layout;
  });
}
