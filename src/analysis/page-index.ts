import { type PageNumber, type StreamPosition, streamPosition } from '../branded.js';
import type { PageRun } from '../mapped-ram/bitmap.js';

/** Where in a stream the contents of a page are. */
export type PageRecord =
  | { readonly kind: 'raw'; readonly position: StreamPosition }
  | { readonly kind: 'compressed'; readonly position: StreamPosition; readonly length: number }
  /** The difference from what the page was before: `base`, or zeros. */
  | {
      readonly kind: 'xbzrle';
      readonly position: StreamPosition;
      readonly length: number;
      readonly base: PageRecord | undefined;
    };

/** Pages a chunk of the index. */
const CHUNK_PAGES = 512;

/**
 * Where the newest record of each page of a block is. It grows with what a file really holds, never with the length
 * that it claims for a block.
 */
export class PageIndex {
  /** By chunk: 0 for a zero page, position + 1 of raw contents, or -1 - index in `#records`. */
  readonly #chunks = new Map<number, Float64Array>();
  readonly #records: PageRecord[] = [];
  #sorted: number[] | undefined;

  setZero(page: PageNumber, count: number): void {
    const last = page + count - 1;
    const first = Math.floor(page / CHUNK_PAGES);
    const end = Math.floor(last / CHUNK_PAGES);
    // Zero pages cost nothing where there were no others: most of them are looked up chunk by chunk only.
    for (const key of end - first > this.#chunks.size ? [...this.#chunks.keys()] : range(first, end)) {
      const chunk = this.#chunks.get(key);
      if (chunk === undefined || key < first || key > end) continue;
      const base = key * CHUNK_PAGES;
      chunk.fill(0, Math.max(0, page - base), Math.min(CHUNK_PAGES, last - base + 1));
    }
  }

  setRaw(page: PageNumber, position: StreamPosition): void {
    this.#chunk(page)[page % CHUNK_PAGES] = position + 1;
  }

  setCompressed(page: PageNumber, position: StreamPosition, length: number): void {
    this.#setRecord(page, { kind: 'compressed', position, length });
  }

  setDifference(page: PageNumber, position: StreamPosition, length: number): void {
    this.#setRecord(page, { kind: 'xbzrle', position, length, base: this.get(page) });
  }

  /** `undefined` for a page that is zero or was never mentioned. */
  get(page: PageNumber): PageRecord | undefined {
    const entry = this.#chunks.get(Math.floor(page / CHUNK_PAGES))?.[page % CHUNK_PAGES] ?? 0;
    if (entry === 0) return undefined;
    return entry > 0 ? { kind: 'raw', position: streamPosition(entry - 1) } : this.#records[-1 - entry];
  }

  /** Number of pages with contents. */
  count(): number {
    let total = 0;
    for (const chunk of this.#chunks.values()) for (const entry of chunk) if (entry !== 0) total++;
    return total;
  }

  /** Runs of pages with contents, from page `from` up to but without `to`. */
  *runs(from: number, to: number, maximum = Number.POSITIVE_INFINITY): Generator<PageRun, void, undefined> {
    this.#sorted ??= [...this.#chunks.keys()].sort((one, other) => one - other);
    let run: PageRun | undefined;
    for (const key of this.#sorted) {
      const chunk = this.#chunks.get(key) as Float64Array;
      const base = key * CHUNK_PAGES;
      const start = Math.max(0, from - base);
      const end = Math.min(CHUNK_PAGES, to - base);
      for (let index = start; index < end; index++) {
        if (chunk[index] === 0) continue;
        const page = base + index;
        if (run !== undefined && run.first + run.count === page && run.count < maximum) run.count++;
        else {
          if (run !== undefined) yield run;
          run = { first: page, count: 1 };
        }
      }
    }
    if (run !== undefined) yield run;
  }

  #setRecord(page: PageNumber, record: PageRecord): void {
    this.#records.push(record);
    this.#chunk(page)[page % CHUNK_PAGES] = -this.#records.length;
  }

  #chunk(page: PageNumber): Float64Array {
    const key = Math.floor(page / CHUNK_PAGES);
    let chunk = this.#chunks.get(key);
    if (chunk === undefined) {
      chunk = new Float64Array(CHUNK_PAGES);
      this.#chunks.set(key, chunk);
      this.#sorted = undefined;
    }
    return chunk;
  }
}

function* range(first: number, last: number): Generator<number> {
  for (let value = first; value <= last; value++) yield value;
}
