import { promisify } from 'node:util';
import { deflateRaw } from 'node:zlib';
import { defined } from '../defined.js';
import { FileSource } from '../mapped-ram/byte-source.js';
import { MappedRamImage } from '../mapped-ram/image.js';
import type { OperationOptions } from '../progress.js';
import { KIND_NUMBER, kindOfPage, PAGE_KINDS, type PageKind } from './page-kind.js';
import type { SavedBlock, SavedVm } from './saved-vm.js';
import { stalePages } from './stale-pages.js';

/** A picture of all memory, the same number of pages to a cell everywhere. */
export interface MemoryPicture {
  /** Bytes that one cell stands for, a power of two times the page size. */
  readonly cellBytes: number;
  /** Guest-physical memory in ascending order, then blocks whose place is not known. */
  readonly regions: readonly PictureRegion[];
  /** Bytes by kind. */
  readonly bytesByKind: Readonly<Record<PageKind, number>>;
  /** How well pages of a kind compress: compressed bytes by bytes, of a sample; absent for kinds without pages. */
  readonly compressibility: Readonly<Partial<Record<PageKind, number>>>;
}

export interface PictureRegion {
  readonly idstr: string;
  /** Guest-physical address; absent where it is not known. */
  readonly start?: number;
  /** Byte of the block at which the region starts. */
  readonly blockOffset: number;
  readonly length: number;
  /** The kind of each cell as its number in `PAGE_KINDS`: the most frequent but zero, if there is any other. */
  readonly cells: Uint8Array;
  /** How much of each cell is of any kind but zero, 255 for all of it. */
  readonly filled: Uint8Array;
}

export interface PictureOptions extends OperationOptions {
  /** Most cells of all regions together; 4 Mi by default, one for each page of 16 GiB. */
  readonly maxCells?: number;
}

const MAX_CELLS = 2 ** 22;
const WINDOW_BYTES = 2 ** 20;

/** With more contents than this, only every n-th window is looked at and stands for those behind it. */
const READ_BUDGET_BYTES = 4 * 2 ** 30;

/** Least number of pages of each kind that are compressed to see how well that goes. */
const COMPRESSED_PAGES = 64;

/** Looks at all pages that a file holds, or a sample of them where there are very many. */
export async function pictureOf(saved: SavedVm, options: PictureOptions = {}): Promise<MemoryPicture> {
  return new Painter(saved, options).paint();
}

class Painter {
  readonly #painted = new Map<SavedBlock, Pick<PictureRegion, 'cells' | 'filled'>>();
  readonly #samples = new Map<PageKind, PageSample>();
  readonly #cellPages: number;
  readonly #totalBytes: number;
  readonly #started = performance.now();
  #bytes = 0;

  constructor(
    private readonly saved: SavedVm,
    private readonly options: PictureOptions,
  ) {
    const pages = saved.blocks.reduce((sum, { pageCount }) => sum + pageCount, 0);
    let cellPages = 1;
    while (pages / cellPages > (options.maxCells ?? MAX_CELLS)) cellPages *= 2;
    this.#cellPages = cellPages;
    let total = 0;
    for (const block of saved.blocks)
      for (const { count } of saved.runs(block)) total += count * block.pageSize;
    this.#totalBytes = total;
  }

  async paint(): Promise<MemoryPicture> {
    const { saved } = this;
    const bytesByKind = Object.fromEntries(PAGE_KINDS.map((kind) => [kind, 0])) as Record<PageKind, number>;
    for (const block of saved.blocks) {
      const tally = new CellTally(block.pageCount, this.#cellPages);
      await this.#contents(block, tally);
      await this.#stale(block, tally);
      for (const [index, kind] of PAGE_KINDS.entries()) {
        bytesByKind[kind] += (tally.totals[index] ?? 0) * block.pageSize;
      }
      this.#painted.set(block, tally.cells());
    }
    return {
      cellBytes: this.#cellPages * saved.pageSize,
      regions: this.#regions(),
      bytesByKind,
      compressibility: await this.#compressibility(),
    };
  }

  async #contents(block: SavedBlock, tally: CellTally): Promise<void> {
    const { saved } = this;
    const { pageSize } = block;
    const step = Math.max(1, Math.ceil(this.#totalBytes / READ_BUDGET_BYTES));
    let number = 0;
    let kind: PageKind = 'data';
    for (const { first, count } of saved.runs(block, WINDOW_BYTES / pageSize)) {
      this.options.signal?.throwIfAborted();
      if (number++ % step === 0) {
        const contents = await this.#read(block, first, count);
        for (let page = 0; page < contents.length / pageSize; page++) {
          const bytes = contents.subarray(page * pageSize, (page + 1) * pageSize);
          kind = kindOfPage(bytes);
          tally.add(first + page, 1, kind);
          this.#sample(kind, bytes);
        }
      } else tally.add(first, count, kind);
      this.#progress(count * pageSize, pageSize);
    }
  }

  /** What is there of some pages: a file that was cut short ends somewhere. */
  async #read(block: SavedBlock, first: number, count: number): Promise<Buffer> {
    try {
      const bytes = await this.saved.readPages(block, first, count);
      return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    } catch (error) {
      if ((error as { code?: unknown }).code !== 'FORMAT') throw error;
      return count > 1 ? this.#read(block, first, count >> 1) : Buffer.alloc(0);
    }
  }

  async #stale(block: SavedBlock, tally: CellTally): Promise<void> {
    const { saved } = this;
    if (!(saved instanceof MappedRamImage) || !(saved.source instanceof FileSource)) return;
    const slots = saved.block(block.idstr);
    if (slots === undefined) return;
    for await (const { first, count } of stalePages(saved.source.fd, slots, this.options.signal)) {
      tally.add(first, count, 'stale');
    }
  }

  #sample(kind: PageKind, page: Buffer): void {
    let sample = this.#samples.get(kind);
    if (sample === undefined) {
      sample = new PageSample();
      this.#samples.set(kind, sample);
    }
    sample.add(page);
  }

  async #compressibility(): Promise<Partial<Record<PageKind, number>>> {
    const deflate = promisify(deflateRaw);
    const result: Partial<Record<PageKind, number>> = {};
    for (const [kind, { pages }] of this.#samples) {
      if (kind === 'zero' || pages.length === 0) continue;
      let compressed = 0;
      for (const page of pages) compressed += (await deflate(page, { level: 1 })).length;
      result[kind] = compressed / pages.reduce((sum, { length }) => sum + length, 0);
    }
    return result;
  }

  #regions(): PictureRegion[] {
    const { saved } = this;
    const { guestMap } = saved;
    const placed = guestMap.regions.flatMap(({ idstr, start, length, blockOffset }) => {
      const block = saved.block(idstr);
      return block === undefined ? [] : [this.#region(block, blockOffset, length, start)];
    });
    const others = guestMap.unplaced.flatMap((idstr) => {
      const block = saved.block(idstr);
      return block === undefined ? [] : [this.#region(block, 0, block.usedLength)];
    });
    return [...placed, ...others];
  }

  #region(block: SavedBlock, blockOffset: number, length: number, start?: number): PictureRegion {
    const cellBytes = this.#cellPages * block.pageSize;
    const [first, end] = [Math.floor(blockOffset / cellBytes), Math.ceil((blockOffset + length) / cellBytes)];
    const { cells, filled } = this.#painted.get(block) as Pick<PictureRegion, 'cells' | 'filled'>;
    return {
      ...{ idstr: block.idstr, blockOffset, length },
      ...defined({ start }),
      cells: cells.subarray(first, end),
      filled: filled.subarray(first, end),
    };
  }

  #progress(bytes: number, pageSize: number): void {
    this.#bytes += bytes;
    const rate = Math.round((this.#bytes / Math.max(1, performance.now() - this.#started)) * 1000);
    this.options.onProgress?.({
      phase: 'looking',
      bytes: this.#bytes,
      totalBytes: this.#totalBytes,
      pages: this.#bytes / pageSize,
      rate,
    });
  }
}

/** Every n-th of all pages that it is given, n as large as it takes to keep few. */
class PageSample {
  pages: Buffer[] = [];
  #stride = 1;
  #seen = 0;

  add(page: Buffer): void {
    if (this.#seen++ % this.#stride !== 0) return;
    this.pages.push(Buffer.from(page));
    if (this.pages.length < 2 * COMPRESSED_PAGES) return;
    this.pages = this.pages.filter((_, index) => index % 2 === 0);
    this.#stride *= 2;
  }
}

/** Counts pages of each kind by cell. */
class CellTally {
  /** Pages by number of kind. */
  readonly totals: number[] = PAGE_KINDS.map(() => 0);
  readonly #counts: Uint32Array;
  readonly #cellCount: number;

  constructor(
    pageCount: number,
    private readonly cellPages: number,
  ) {
    this.totals[KIND_NUMBER.zero] = pageCount;
    this.#cellCount = Math.ceil(pageCount / cellPages);
    this.#counts = new Uint32Array(this.#cellCount * PAGE_KINDS.length);
  }

  add(first: number, count: number, kind: PageKind): void {
    const number = KIND_NUMBER[kind];
    if (number === KIND_NUMBER.zero) return;
    this.totals[number] = (this.totals[number] as number) + count;
    this.totals[KIND_NUMBER.zero] = (this.totals[KIND_NUMBER.zero] as number) - count;
    for (let page = first; page < first + count; ) {
      const cell = Math.floor(page / this.cellPages);
      const end = Math.min(first + count, (cell + 1) * this.cellPages);
      const at = cell * PAGE_KINDS.length + number;
      this.#counts[at] = (this.#counts[at] as number) + end - page;
      page = end;
    }
  }

  /** The most frequent kind of each cell, zero only where there is nothing else. */
  cells(): Pick<PictureRegion, 'cells' | 'filled'> {
    const cells = new Uint8Array(this.#cellCount);
    const filled = new Uint8Array(this.#cellCount);
    for (let cell = 0; cell < cells.length; cell++) {
      let most = 0;
      let pages = 0;
      for (let kind = 1; kind < PAGE_KINDS.length; kind++) {
        const count = this.#counts[cell * PAGE_KINDS.length + kind] as number;
        pages += count;
        if (count <= most) continue;
        most = count;
        cells[cell] = kind;
      }
      filled[cell] = Math.ceil((pages / this.cellPages) * 255);
    }
    return { cells, filled };
  }
}
