import { type PageNumber, type StreamPosition, streamPosition } from '../branded.js';
import { MapramError } from '../errors.js';
import { PagedNumbers } from '../io/file/paged-numbers.js';
import type { PageRun } from '../mapped-ram/bitmap.js';

/** Where in a stream the contents of a page are. Its length stands right before the data of those that are not `raw`. */
export type PageRecord =
  | { readonly kind: 'raw' | 'compressed'; readonly position: StreamPosition }
  /** The difference from what the page was before: the record of number `before`, which may be one of another difference. */
  | { readonly kind: 'xbzrle'; readonly position: StreamPosition; readonly before: number };

/** Of all blocks of a stream; a PiB of 4 KiB pages. One bit for each 512 of them is kept in memory, up to the last that has contents. */
const MAX_PAGES = 2 ** 38;
/** Blocks share no chunk of the numbers. */
const BLOCK_ALIGNMENT = 512;

const PAGES_MEMORY_BYTES = 48 * 2 ** 20;
const DIFFERENCES_MEMORY_BYTES = 16 * 2 ** 20;

/** What the index takes at most in any case. Pages take 4 KiB in the file, or lie close together: only made-up files need more. */
const MIN_LIMIT_BYTES = 256 * 2 ** 20;

/**
 * Where the newest record of each page of a stream is, for all its blocks. Beyond 64 MiB it lies in a temporary file: a stream may have its
 * pages in any order and any number of times.
 *
 * ```
 * pages          a number a page
 *                0                 a zero page, or one that was never mentioned
 *                position + 1      raw contents
 *                -(2p + 1)         a compressed page at position p
 *                -(2n + 2)         difference n
 * differences    two numbers each: its position, and what the page's number was before
 * ```
 */
export class PageIndex implements Disposable {
  readonly #pages: PagedNumbers;
  readonly #differences: PagedNumbers;
  #blockEnd = 0;
  #differenceCount = 0;

  /** @param fileBytes how large the file is; the index may become as large, but at least `MIN_LIMIT_BYTES` */
  constructor(
    private readonly name: string,
    fileBytes: number,
    memory = { pages: PAGES_MEMORY_BYTES, differences: DIFFERENCES_MEMORY_BYTES },
  ) {
    const purpose = `where the pages of ${name} are`;
    const maximumBytes = Math.max(MIN_LIMIT_BYTES, fileBytes);
    this.#pages = new PagedNumbers({ memoryBytes: memory.pages, maximumBytes, purpose });
    this.#differences = new PagedNumbers({ memoryBytes: memory.differences, maximumBytes, purpose });
  }

  /** @throws MapramError `UNSUPPORTED` where the stream has too many pages */
  addBlock(pageCount: number): BlockIndex {
    const first = this.#blockEnd;
    this.#blockEnd = Math.ceil((first + pageCount) / BLOCK_ALIGNMENT) * BLOCK_ALIGNMENT;
    if (this.#blockEnd > MAX_PAGES) {
      throw new MapramError(
        'UNSUPPORTED',
        `opening ${this.name}: its RAM blocks have more than ${MAX_PAGES} pages together, which are a PiB of 4 KiB pages`,
        { path: this.name },
      );
    }
    return new BlockIndex(this, first);
  }

  setZero(page: number, count: number): void {
    this.#pages.clear(page, page + count);
  }

  setRaw(page: number, position: StreamPosition): void {
    this.#pages.set(page, position + 1);
  }

  setCompressed(page: number, position: StreamPosition): void {
    this.#pages.set(page, -(2 * position + 1));
  }

  setDifference(page: number, position: StreamPosition): void {
    const difference = this.#differenceCount++;
    this.#differences.set(2 * difference, position);
    this.#differences.set(2 * difference + 1, this.#pages.get(page));
    this.#pages.set(page, -(2 * difference + 2));
  }

  get(page: number): PageRecord | undefined {
    return this.record(this.#pages.get(page));
  }

  /** The pages with contents. */
  indexes(start: number, end: number): Generator<number, void, undefined> {
    return this.#pages.indexes(start, end);
  }

  /** What a page's number says, or `before` of a difference; `undefined` for zeros. */
  record(number: number): PageRecord | undefined {
    if (number === 0) return undefined;
    if (number > 0) return { kind: 'raw', position: streamPosition(number - 1) };
    if (number % 2 !== 0) return { kind: 'compressed', position: streamPosition((-number - 1) / 2) };
    const difference = (-number - 2) / 2;
    const position = streamPosition(this.#differences.get(2 * difference));
    return { kind: 'xbzrle', position, before: this.#differences.get(2 * difference + 1) };
  }

  [Symbol.dispose](): void {
    this.#pages[Symbol.dispose]();
    this.#differences[Symbol.dispose]();
  }
}

/** The pages of one block in an index, counted from its first page. */
export class BlockIndex {
  constructor(
    private readonly all: PageIndex,
    private readonly first: number,
  ) {}

  setZero(page: PageNumber, count: number): void {
    this.all.setZero(this.first + page, count);
  }

  setRaw(page: PageNumber, position: StreamPosition): void {
    this.all.setRaw(this.first + page, position);
  }

  setCompressed(page: PageNumber, position: StreamPosition): void {
    this.all.setCompressed(this.first + page, position);
  }

  setDifference(page: PageNumber, position: StreamPosition): void {
    this.all.setDifference(this.first + page, position);
  }

  /** `undefined` for a page that is zero or was never mentioned. */
  get(page: PageNumber): PageRecord | undefined {
    return this.all.get(this.first + page);
  }

  /** Runs of pages with contents, from page `from` up to but without `to`. */
  *runs(from: number, to: number, maximum = Number.POSITIVE_INFINITY): Generator<PageRun, void, undefined> {
    let run: PageRun | undefined;
    for (const index of this.all.indexes(this.first + from, this.first + to)) {
      const page = index - this.first;
      if (run !== undefined && run.first + run.count === page && run.count < maximum) run.count++;
      else {
        if (run !== undefined) yield run;
        run = { first: page, count: 1 };
      }
    }
    if (run !== undefined) yield run;
  }
}
