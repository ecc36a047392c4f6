/**
 * Puts pages that arrive one by one, in any order and more than once, into their slots of a mapped-ram file.
 *
 * A page that becomes zero after it was written loses its bit and its slot is punched: the file is then right also
 * for a reader that maps it.
 */
import { inflateSync } from 'node:zlib';
import type { ArrivalDigester } from '../checksums/arrival-digester.js';
import { MapramError } from '../errors.js';
import { punchHole } from '../io/file/file-space.js';
import { readFully, writeFully } from '../io/file/positional-io.js';
import { alignedBuffer } from '../io/memory/aligned-buffer.js';
import { PageBitmap } from '../mapped-ram/bitmap.js';
import { decodeXbzrle } from '../stream/xbzrle.js';
import type { SlotBlock } from './channel-block.js';
import { SlotAllocator } from './file/slot-allocation.js';
import { GATHER_BYTES, WriteBehind } from './file/write-behind.js';
import { findBit } from './page-bits.js';

/** The file and the places of all blocks in it. */
export interface PagePlace {
  /** For messages. */
  name: string;
  /** To be opened by the thread that places pages; it leads to the open file, whatever is at the file's own path by then. */
  path: string;
  /** Whether page data go out through O_DIRECT. */
  direct: boolean;
  blocks: SlotBlock[];
}

export interface PlacerCounters {
  /** Of page data, handed over for writing. */
  bytes: number;
  normalPages: number;
  duplicatePages: number;
}

interface PlacerBlock extends SlotBlock {
  present: PageBitmap;
}

export interface PagePlacerOptions {
  /** Of the stream, for errors. */
  name: string;
  /** Whether the descriptor has O_DIRECT. */
  direct: boolean;
  blocks: readonly SlotBlock[];
  /** Told of all pages that come by here. */
  digester?: ArrivalDigester;
}

export class PagePlacer {
  readonly counters: PlacerCounters = { bytes: 0, normalPages: 0, duplicatePages: 0 };
  readonly #fd: number;
  readonly #options: PagePlacerOptions;
  readonly #blocks: Map<string, PlacerBlock>;
  readonly #out: WriteBehind;
  #zeros: Buffer | undefined;

  /** @param fd where pages go, readable too where XBZRLE pages may come; to be closed after `close` only */
  constructor(fd: number, options: PagePlacerOptions) {
    this.#fd = fd;
    this.#options = options;
    this.#blocks = new Map(
      options.blocks.map((block) => [
        block.idstr,
        { ...block, present: new PageBitmap(block.usedLength / block.pageSize, block.bitmap) },
      ]),
    );
    const allocator = new SlotAllocator(fd);
    this.#out = new WriteBehind(fd, {
      direct: options.direct,
      prepare: (position, length) => {
        const block = this.#blockAt(position);
        allocator.prepare(block, position - block.pagesOffset, length);
      },
    });
  }

  /** Whole pages, one behind the other from `offset` of the block on. */
  async pages(idstr: string, offset: number, data: readonly Uint8Array[]): Promise<void> {
    let at = offset;
    for (let index = 0; index < data.length; ) {
      const pageSize = (data[index] as Uint8Array).length;
      const fitting = Math.max(1, Math.floor(this.#out.free / pageSize));
      const pages = data.slice(index, index + fitting);
      const length = pages.length * pageSize;
      const room = this.#out.room(length) ?? (await this.room(length));
      for (const [page, bytes] of pages.entries()) room.set(bytes, page * pageSize);
      this.#append(this.#blockOf(idstr, at, length), at, length);
      at += length;
      index += pages.length;
    }
  }

  /**
   * Memory for `length` bytes of pages that come next, at most `GATHER_BYTES`. `filled` must follow before
   * anything else is done with the placer.
   */
  async room(length: number): Promise<Buffer> {
    let room = this.#out.room(length);
    if (room === undefined) {
      await this.#out.makeRoom();
      room = this.#out.room(length);
    }
    if (room === undefined) throw this.#malformed(`${length} bytes of pages come in one piece`);
    return room;
  }

  /** Tells that `room` now holds one page for each of `offsets`. */
  filled(idstr: string, offsets: readonly number[], pageSize: number): void {
    for (let index = 0; index < offsets.length; ) {
      const start = offsets[index] as number;
      let count = 1;
      while (offsets[index + count] === start + count * pageSize) count++;
      this.#append(this.#blockOf(idstr, start, count * pageSize), start, count * pageSize);
      index += count;
    }
  }

  async zeroPages(idstr: string, offset: number, length: number): Promise<void> {
    const block = this.#blockOf(idstr, offset, length);
    const { pageSize, present } = block;
    const end = (offset + length) / pageSize;
    let first = findBit(present.bytes, offset / pageSize, end, true);
    while (first < end) {
      const next = findBit(present.bytes, first, end, false);
      await this.#unplace(block, first, next - first);
      first = findBit(present.bytes, next, end, true);
    }
    this.counters.duplicatePages += length / pageSize;
  }

  /** A page as its difference to the one placed before. */
  async xbzrlePage(idstr: string, offset: number, encoded: Uint8Array): Promise<void> {
    const block = this.#blockOf(idstr, offset, 0);
    const { pageSize, pagesOffset, present } = block;
    this.#options.digester?.changed(idstr, offset, pageSize);
    const gathered = this.#out.find(pagesOffset + offset);
    if (gathered) {
      decodeXbzrle(encoded, gathered.subarray(0, pageSize));
      return;
    }
    if (this.#out.touches(pagesOffset + offset, pageSize)) await this.#out.settle();
    const page = await this.room(pageSize);
    if (present.test(offset / pageSize)) readFully(this.#fd, page, pagesOffset + offset);
    else page.fill(0);
    decodeXbzrle(encoded, page);
    this.filled(idstr, [offset], pageSize);
  }

  async compressedPage(idstr: string, offset: number, compressed: Uint8Array): Promise<void> {
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
    await this.pages(idstr, offset, [page]);
  }

  /** Resolves when all pages so far are in the file. */
  async settle(): Promise<void> {
    await this.#out.settle();
  }

  /** As `settle`, when no pages come any more. */
  async finish(): Promise<void> {
    await this.#out.settle();
    this.#options.digester?.finish();
  }

  /** Resolves when the descriptor is not in use any more. What was not settled may be lost. */
  async close(): Promise<void> {
    await this.#out.close();
  }

  #append(block: PlacerBlock, offset: number, length: number): void {
    const { idstr, pageSize, pagesOffset, present } = block;
    const bytes = this.#out.append(pagesOffset + offset, length);
    const first = present.claimRange(offset / pageSize, length / pageSize);
    this.#options.digester?.pages(idstr, offset, bytes, first);
    this.counters.normalPages += length / pageSize;
    this.counters.bytes += length;
  }

  /** Takes out pages that were placed before. */
  async #unplace(
    { idstr, pageSize, pagesOffset, present }: PlacerBlock,
    first: number,
    count: number,
  ): Promise<void> {
    const slot = pagesOffset + first * pageSize;
    const length = count * pageSize;
    // An older copy that is on its way must not be written later.
    if (this.#out.touches(slot, length)) await this.#out.settle();
    this.#options.digester?.changed(idstr, first * pageSize, length);
    present.clearRange(first, count);
    this.#makeHole(slot, length);
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

  /** The block that has a slot there. */
  #blockAt(position: number): PlacerBlock {
    for (const block of this.#blocks.values()) {
      if (position >= block.pagesOffset && position < block.pagesOffset + block.usedLength) return block;
    }
    throw new RangeError(`no slot lies at ${position}`);
  }

  #malformed(problem: string, cause?: unknown): MapramError {
    return new MapramError(
      'FORMAT',
      `receiving ${this.#options.name}: ${problem}; the sender is not QEMU or bytes were lost`,
      {
        cause,
      },
    );
  }
}
