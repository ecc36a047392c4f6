/** A run of neighbouring pages: `first` .. `first + count - 1`. */
export interface PageRun {
  first: number;
  count: number;
}

/** Page numbers are handled as unsigned 32-bit integers: 16 TiB of 4 KiB pages a block. */
export const MAX_PAGES = 2 ** 32;

/** Of all blocks of a file together, since they are kept in memory: 4 TiB of 4 KiB pages. */
export const MAX_BITMAP_BYTES = 128 * 2 ** 20;

/**
 * One bit a page: set where the page was written and its slot in the file is valid, clear where the page is zero.
 *
 * ```text
 * byte 0           byte 1                  padded with 0 bits to a multiple of 8 bytes,
 * 7 6 5 4 3 2 1 0  15 14 13 12 11 10 9 8   as QEMU dumps its 64-bit words
 * ```
 *
 * Page `i` is bit `i & 7` of byte `i >> 3`, least significant first. QEMU dumps the words of its host, so this is
 * the order of little-endian hosts, the only ones supported.
 *
 * Over a `SharedArrayBuffer` several threads may set and clear bits at once: single bits are changed
 * atomically, and so are the edges of ranges.
 */
export class PageBitmap {
  readonly pageCount: number;
  /** The bits as they lie in the file, `PageBitmap.byteLength(pageCount)` bytes. */
  readonly bytes: Uint8Array;
  private readonly words: Uint32Array;
  private readonly shared: boolean;

  /**
   * @param buffer holds the bits from its first byte on; a fresh, zeroed one by default. At least
   *   `PageBitmap.byteLength(pageCount)` bytes long, else a `RangeError` is thrown.
   */
  constructor(pageCount: number, buffer?: ArrayBufferLike) {
    if (!Number.isInteger(pageCount) || pageCount < 0 || pageCount > MAX_PAGES) {
      throw new RangeError(`a block cannot have ${pageCount} pages`);
    }
    const byteLength = PageBitmap.byteLength(pageCount);
    const store = buffer ?? new ArrayBuffer(byteLength);
    this.pageCount = pageCount;
    this.bytes = new Uint8Array(store, 0, byteLength);
    this.words = new Uint32Array(store, 0, byteLength / 4);
    this.shared = store instanceof SharedArrayBuffer;
  }

  /** Bytes that the bits of `pageCount` pages take in a file: `ceil(pageCount / 64) * 8`. */
  static byteLength(pageCount: number): number {
    return Math.ceil(pageCount / 64) * 8;
  }

  /** A zeroed bitmap whose `buffer` can be handed to worker threads. */
  static shared(pageCount: number): PageBitmap {
    return new PageBitmap(pageCount, new SharedArrayBuffer(PageBitmap.byteLength(pageCount)));
  }

  /** A bitmap with a copy of `bytes`; missing ones count as zero. */
  static fromBytes(pageCount: number, bytes: Uint8Array): PageBitmap {
    const bitmap = new PageBitmap(pageCount);
    bitmap.bytes.set(bytes.subarray(0, bitmap.bytes.byteLength));
    return bitmap;
  }

  get buffer(): ArrayBufferLike {
    return this.bytes.buffer;
  }

  test(page: number): boolean {
    return ((this.bytes[page >>> 3] ?? 0) & (1 << (page & 7))) !== 0;
  }

  set(page: number): void {
    this.check(page, 1);
    this.setBits(page >>> 3, 1 << (page & 7));
  }

  clear(page: number): void {
    this.check(page, 1);
    this.clearBits(page >>> 3, 1 << (page & 7));
  }

  setRange(first: number, count: number): void {
    this.check(first, count);
    this.changeRange(first, count, 0xff);
  }

  /** As `setRange`. Returns whether all of them were clear; of several threads only one is told so of a page. */
  claimRange(first: number, count: number): boolean {
    this.check(first, count);
    let clear = true;
    for (let page = first; page < first + count; ) {
      const length = Math.min(8 - (page & 7), first + count - page);
      const mask = (0xff >> (8 - length)) << (page & 7);
      if ((Atomics.or(this.bytes, Math.floor(page / 8), mask) & mask) !== 0) clear = false;
      page += length;
    }
    return clear;
  }

  clearRange(first: number, count: number): void {
    this.check(first, count);
    this.changeRange(first, count, 0);
  }

  /** Number of set bits, those past `pageCount` not counted. */
  count(): number {
    let total = 0;
    for (let index = 0; index < this.words.length; index++) {
      const word = this.words[index] as number;
      if (word !== 0) total += populationCount(word);
    }
    return total - this.strayBits();
  }

  /** Number of set bits past the last page. A sound file has none. */
  strayBits(): number {
    let stray = 0;
    for (let page = this.pageCount; page < this.bytes.byteLength * 8; page++) if (this.test(page)) stray++;
    return stray;
  }

  /** The first set page at or after `from`, or `pageCount` if there is none. */
  nextSet(from: number): number {
    return this.next(from, 0);
  }

  /** The first clear page at or after `from`, or `pageCount` if there is none. */
  nextClear(from: number): number {
    return this.next(from, 0xffffffff);
  }

  /**
   * The runs of set pages from page `from` up to but without page `to`, in ascending order.
   * Runs longer than `maximum` pages are handed out in pieces.
   */
  *runs(
    from = 0,
    to = this.pageCount,
    maximum = Number.POSITIVE_INFINITY,
  ): Generator<PageRun, void, undefined> {
    yield* this.pieces(0, from, to, maximum);
  }

  /** Like `runs`, of clear pages. */
  *clearRuns(
    from = 0,
    to = this.pageCount,
    maximum = Number.POSITIVE_INFINITY,
  ): Generator<PageRun, void, undefined> {
    yield* this.pieces(0xffffffff, from, to, maximum);
  }

  private *pieces(
    dull: number,
    from: number,
    to: number,
    maximum: number,
  ): Generator<PageRun, void, undefined> {
    const limit = Math.min(to, this.pageCount);
    let first = this.next(from, dull);
    while (first < limit) {
      const end = Math.min(this.next(first, ~dull >>> 0), limit);
      for (; first < end; first += maximum) yield { first, count: Math.min(maximum, end - first) };
      first = this.next(end, dull);
    }
  }

  /** The first page at or after `from` whose bit differs from those of the word `dull` (all ones or all zeros). */
  private next(from: number, dull: number): number {
    const { words, pageCount } = this;
    let index = from >>> 5;
    if (from >= pageCount) return pageCount;
    let different = ((this.littleEndian(index) ^ dull) & (0xffffffff << (from & 31))) >>> 0;
    while (different === 0) {
      index++;
      // Words of only dull bits read the same in either byte order.
      while (index < words.length && words[index] === dull) index++;
      if (index >= words.length) return pageCount;
      different = (this.littleEndian(index) ^ dull) >>> 0;
    }
    const lowest = 31 - Math.clz32(different & -different);
    return Math.min(index * 32 + lowest, pageCount);
  }

  private littleEndian(index: number): number {
    const { bytes } = this;
    const at = index * 4;
    return (
      (bytes[at] as number) |
      ((bytes[at + 1] as number) << 8) |
      ((bytes[at + 2] as number) << 16) |
      ((bytes[at + 3] as number) << 24)
    );
  }

  private check(first: number, count: number): void {
    if (!(first >= 0 && count >= 0 && first + count <= this.pageCount)) {
      throw new RangeError(
        `pages ${first} to ${first + count} are outside a block of ${this.pageCount} pages`,
      );
    }
  }

  private setBits(index: number, mask: number): void {
    if (this.shared) Atomics.or(this.bytes, index, mask);
    else this.bytes[index] = (this.bytes[index] as number) | mask;
  }

  private clearBits(index: number, mask: number): void {
    if (this.shared) Atomics.and(this.bytes, index, ~mask);
    else this.bytes[index] = (this.bytes[index] as number) & ~mask;
  }

  private changeRange(first: number, count: number, fill: 0 | 0xff): void {
    if (count === 0) return;
    const change = fill === 0 ? this.clearBits : this.setBits;
    const last = first + count - 1;
    const head = 0xff & (0xff << (first & 7));
    const tail = 0xff >> (7 - (last & 7));
    const firstByte = Math.floor(first / 8);
    const lastByte = Math.floor(last / 8);
    if (firstByte === lastByte) change.call(this, firstByte, head & tail);
    else {
      change.call(this, firstByte, head);
      this.bytes.fill(fill, firstByte + 1, lastByte);
      change.call(this, lastByte, tail);
    }
  }
}

function populationCount(word: number): number {
  let bits = word - ((word >>> 1) & 0x55555555);
  bits = (bits & 0x33333333) + ((bits >>> 2) & 0x33333333);
  return Math.imul((bits + (bits >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}
