/**
 * Puts pages that arrive one by one, in any order and more than once, into their slots of a mapped-ram file.
 *
 * Neighbouring pages are gathered in a page-aligned buffer and leave in one write, so that O_DIRECT works and writes
 * are large. A page that becomes zero after it was written loses its bit and its slot is punched: the file is then
 * right also for a reader that maps it.
 */
import { inflateSync } from 'node:zlib';
import { MapramError } from '../errors.js';
import { alignedBuffer } from '../io/aligned-buffer.js';
import { punchHole } from '../io/file-space.js';
import { readFully, writeFully } from '../io/positional-io.js';
import { PageBitmap } from '../mapped-ram/bitmap.js';
import { decodeXbzrle } from '../stream/xbzrle.js';
import type { PlacedBlock } from './source.js';

const GATHER_BYTES = 4 << 20;

interface PlacerBlock extends PlacedBlock {
  present: PageBitmap;
}

export interface PlacerCounters {
  bytes: number;
  normalPages: number;
  duplicatePages: number;
}

export class PagePlacer {
  readonly counters: PlacerCounters = { bytes: 0, normalPages: 0, duplicatePages: 0 };
  readonly #fd: number;
  readonly #name: string;
  readonly #blocks: Map<string, PlacerBlock>;
  readonly #buffer = alignedBuffer(GATHER_BYTES);
  /** The gathered run: `#filled` bytes that belong at `#start` of `#block`. */
  #block: PlacerBlock | undefined;
  #start = 0;
  #filled = 0;

  /** @param fd where pages go, opened with O_DIRECT or not */
  constructor(fd: number, name: string, blocks: readonly PlacedBlock[]) {
    this.#fd = fd;
    this.#name = name;
    this.#blocks = new Map(
      blocks.map((block) => [
        block.idstr,
        { ...block, present: new PageBitmap(block.usedLength / block.pageSize, block.bitmap) },
      ]),
    );
  }

  /** Whole pages, one behind the other from `offset` of the block on. */
  pages(idstr: string, offset: number, data: readonly Uint8Array[]): void {
    const block = this.#blockOf(idstr);
    for (const page of data) {
      if (
        block !== this.#block ||
        offset !== this.#start + this.#filled ||
        this.#filled + page.length > GATHER_BYTES
      ) {
        this.flush();
        this.#block = block;
        this.#start = offset;
      }
      this.#buffer.set(page, this.#filled);
      this.#filled += page.length;
      offset += page.length;
    }
  }

  zeroPages(idstr: string, offset: number, length: number): void {
    const block = this.#blockOf(idstr);
    this.flush();
    const first = offset / block.pageSize;
    const count = length / block.pageSize;
    for (let page = first; page < first + count; page++) {
      if (!block.present.test(page)) continue;
      block.present.clear(page);
      punchHole(this.#fd, block.pagesOffset + page * block.pageSize, block.pageSize);
    }
    this.counters.duplicatePages += count;
  }

  /** A page as its difference to the one placed before. */
  xbzrlePage(idstr: string, offset: number, encoded: Uint8Array): void {
    const block = this.#blockOf(idstr);
    this.flush();
    const page = this.#buffer.subarray(0, block.pageSize);
    if (block.present.test(offset / block.pageSize)) readFully(this.#fd, page, block.pagesOffset + offset);
    else page.fill(0);
    decodeXbzrle(encoded, page);
    this.#block = block;
    this.#start = offset;
    this.#filled = block.pageSize;
  }

  compressedPage(idstr: string, offset: number, compressed: Uint8Array): void {
    const { pageSize } = this.#blockOf(idstr);
    let page: Uint8Array;
    try {
      page = inflateSync(compressed, { maxOutputLength: pageSize });
    } catch (cause) {
      throw new MapramError(
        'FORMAT',
        `receiving RAM block ${idstr}: the compressed page at ${offset} cannot be inflated`,
        { cause },
      );
    }
    if (page.length !== pageSize) {
      throw new MapramError(
        'FORMAT',
        `receiving RAM block ${idstr}: the compressed page at ${offset} has ${page.length} bytes instead of ${pageSize}`,
      );
    }
    this.pages(idstr, offset, [page]);
  }

  /** Writes what is gathered. */
  flush(): void {
    const block = this.#block;
    if (!block || this.#filled === 0) return;
    writeFully(this.#fd, this.#buffer.subarray(0, this.#filled), block.pagesOffset + this.#start);
    const first = this.#start / block.pageSize;
    const count = this.#filled / block.pageSize;
    for (let page = first; page < first + count; page++) block.present.set(page);
    this.counters.normalPages += count;
    this.counters.bytes += this.#filled;
    this.#block = undefined;
    this.#filled = 0;
  }

  #blockOf(idstr: string): PlacerBlock {
    const block = this.#blocks.get(idstr);
    if (!block)
      throw new MapramError(
        'FORMAT',
        `receiving pages for ${this.#name}: RAM block ${idstr} is not in the file`,
      );
    return block;
  }
}
