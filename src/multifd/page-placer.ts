/**
 * Puts pages that arrive one by one, in any order and more than once, into their slots of a mapped-ram file.
 *
 * Pages are gathered in a page-aligned buffer, so that O_DIRECT works and writes are large:
 *
 * ```
 * buffer    |page|page|page|page|page|page|page|      |
 * segments  |<- block a, at x ->|<- b, at y ->|         one write each
 * ```
 *
 * A page that becomes zero after it was written loses its bit and its slot is punched: the file is then right also
 * for a reader that maps it.
 */
import { inflateSync } from 'node:zlib';
import { MapramError } from '../errors.js';
import { alignedBuffer } from '../io/aligned-buffer.js';
import { punchHole } from '../io/file-space.js';
import { startWriteBack } from '../io/page-cache.js';
import { readFully, writeFully } from '../io/positional-io.js';
import { PageBitmap } from '../mapped-ram/bitmap.js';
import { decodeXbzrle } from '../stream/xbzrle.js';

/** Where the pages of a block go. */
export interface PlacedBlock {
  idstr: string;
  usedLength: number;
  pageSize: number;
  /** Absolute offset of page 0 in the file. */
  pagesOffset: number;
  /** Present bits, LSB first, shared between all that place pages. */
  bitmap: SharedArrayBuffer;
}

/** The file and the places of all blocks in it. */
export interface PagePlace {
  /** To be opened by whoever places pages. */
  path: string;
  /** Whether page data go out through O_DIRECT. */
  direct: boolean;
  blocks: PlacedBlock[];
}

export interface PlacerCounters {
  /** Of page data, handed over for writing. */
  bytes: number;
  normalPages: number;
  duplicatePages: number;
}

/** What is gathered before it is written. */
export const GATHER_BYTES = 4 << 20;
/** More runs than this are written at once, so that looking for a page among them stays quick. */
const MAX_SEGMENTS = 256;

interface PlacerBlock extends PlacedBlock {
  present: PageBitmap;
}

/** A run of pages in the buffer. */
interface Segment {
  block: PlacerBlock;
  offset: number;
  at: number;
  length: number;
}

export class PagePlacer {
  readonly counters: PlacerCounters = { bytes: 0, normalPages: 0, duplicatePages: 0 };
  readonly #fd: number;
  readonly #name: string;
  readonly #direct: boolean;
  readonly #blocks: Map<string, PlacerBlock>;
  readonly #buffer = alignedBuffer(GATHER_BYTES);
  #segments: Segment[] = [];
  #filled = 0;
  #zeros: Buffer | undefined;

  /**
   * @param fd where pages go, readable too where XBZRLE pages may come
   * @param name of the stream, for errors
   * @param direct whether `fd` has O_DIRECT
   */
  constructor(fd: number, name: string, direct: boolean, blocks: readonly PlacedBlock[]) {
    this.#fd = fd;
    this.#name = name;
    this.#direct = direct;
    this.#blocks = new Map(
      blocks.map((block) => [
        block.idstr,
        { ...block, present: new PageBitmap(block.usedLength / block.pageSize, block.bitmap) },
      ]),
    );
  }

  /** Whole pages, one behind the other from `offset` of the block on. */
  pages(idstr: string, offset: number, data: readonly Uint8Array[]): void {
    let at = offset;
    for (const page of data) {
      this.room(page.length).set(page);
      this.#append(this.#blockOf(idstr, at, page.length), at, page.length);
      at += page.length;
    }
  }

  /**
   * Memory for `length` bytes of pages that come next, at most `GATHER_BYTES`. `filled` must follow before
   * anything else is done with the placer.
   */
  room(length: number): Buffer {
    if (this.#filled + length > GATHER_BYTES || this.#segments.length >= MAX_SEGMENTS) this.flush();
    return this.#buffer.subarray(this.#filled, this.#filled + length);
  }

  /** Tells that `room` now holds one page for each of `offsets`. */
  filled(idstr: string, offsets: readonly number[], pageSize: number): void {
    for (const offset of offsets) this.#append(this.#blockOf(idstr, offset, pageSize), offset, pageSize);
  }

  zeroPages(idstr: string, offset: number, length: number): void {
    const block = this.#blockOf(idstr, offset, length);
    const { pageSize, pagesOffset, present } = block;
    const first = offset / pageSize;
    const count = length / pageSize;
    for (const run of present.runs(first, first + count)) {
      // What is gathered may hold an older copy, which must not be written later.
      this.flush();
      present.clearRange(run.first, run.count);
      this.#makeHole(pagesOffset + run.first * pageSize, run.count * pageSize);
    }
    this.counters.duplicatePages += count;
  }

  /** A page as its difference to the one placed before. */
  xbzrlePage(idstr: string, offset: number, encoded: Uint8Array): void {
    const { pageSize, pagesOffset, present } = this.#blockOf(idstr, offset, 0);
    const gathered = this.#gathered(idstr, offset);
    if (gathered) {
      decodeXbzrle(encoded, gathered.subarray(0, pageSize));
      return;
    }
    const page = this.room(pageSize);
    if (present.test(offset / pageSize)) readFully(this.#fd, page, pagesOffset + offset);
    else page.fill(0);
    decodeXbzrle(encoded, page);
    this.filled(idstr, [offset], pageSize);
  }

  compressedPage(idstr: string, offset: number, compressed: Uint8Array): void {
    const { pageSize } = this.#blockOf(idstr, offset, 0);
    let page: Uint8Array;
    try {
      page = inflateSync(compressed, { maxOutputLength: pageSize });
    } catch (cause) {
      throw this.#malformed(
        `the compressed page at ${offset} of RAM block ${idstr} cannot be inflated`,
        cause,
      );
    }
    if (page.length !== pageSize) {
      throw this.#malformed(
        `the compressed page at ${offset} of RAM block ${idstr} has ${page.length} bytes instead of ${pageSize}`,
      );
    }
    this.pages(idstr, offset, [page]);
  }

  /** Writes what is gathered, in the order in which it came. */
  flush(): void {
    const segments = this.#segments;
    this.#segments = [];
    this.#filled = 0;
    for (const { block, offset, at, length } of segments) {
      const slot = block.pagesOffset + offset;
      writeFully(this.#fd, this.#buffer.subarray(at, at + length), slot);
      // Buffered data would otherwise pile up in the page cache until the kernel stops every writer at once.
      if (!this.#direct) startWriteBack(this.#fd, slot, length);
    }
  }

  #append(block: PlacerBlock, offset: number, length: number): void {
    const last = this.#segments.at(-1);
    if (last?.block === block && last.offset + last.length === offset) last.length += length;
    else this.#segments.push({ block, offset, at: this.#filled, length });
    this.#filled += length;
    block.present.setRange(offset / block.pageSize, length / block.pageSize);
    this.counters.normalPages += length / block.pageSize;
    this.counters.bytes += length;
  }

  /** The gathered bytes from that page on, if it is gathered. */
  #gathered(idstr: string, offset: number): Buffer | undefined {
    const segment = this.#segments.findLast(
      ({ block, offset: start, length }) =>
        block.idstr === idstr && start <= offset && offset < start + length,
    );
    return (
      segment && this.#buffer.subarray(segment.at + offset - segment.offset, segment.at + segment.length)
    );
  }

  #makeHole(slot: number, length: number): void {
    if (punchHole(this.#fd, slot, length)) return;
    this.#zeros ??= alignedBuffer(GATHER_BYTES);
    for (let done = 0; done < length; done += GATHER_BYTES) {
      writeFully(this.#fd, this.#zeros.subarray(0, Math.min(GATHER_BYTES, length - done)), slot + done);
    }
  }

  #blockOf(idstr: string, offset: number, length: number): PlacerBlock {
    const block = this.#blocks.get(idstr);
    if (!block) throw this.#malformed(`RAM block "${idstr}" is not in the block list`);
    if (offset + length > block.usedLength) {
      throw this.#malformed(`a page at ${offset} is outside RAM block ${idstr} of ${block.usedLength} bytes`);
    }
    return block;
  }

  #malformed(problem: string, cause?: unknown): MapramError {
    return new MapramError(
      'FORMAT',
      `receiving ${this.#name}: ${problem}; the sender is not QEMU or bytes were lost`,
      {
        cause,
      },
    );
  }
}
