/**
 * Where a block's memory holds data, asked for one chunk at a time.
 *
 * Seeking alone would be quadratic: the kernel walks to the end of an extent however far that is, for each chunk of a
 * guest whose memory is all in use. So a mapped block is asked which of the chunk's pages are resident, and only the
 * others are looked for by seeking for data, which skips holes as a whole. Blocks that cannot be asked that way
 * remember the extent that was found last.
 */
import { fstatSync } from 'node:fs';
import { dataExtents, type Extent, seekData } from '../../io/file/data-extents.js';
import type { MemoryWindows } from '../../io/memory/memory-map.js';
import { native } from '../../io/native.js';
import type { MemoryBlock } from '../channel-block.js';

export class BlockExtents {
  readonly #hostPage: number;
  readonly #canAsk: boolean;
  #resident = new Uint8Array(0);
  #last: Extent = { start: 0, end: 0 };

  constructor(
    private readonly block: MemoryBlock,
    private readonly windows: MemoryWindows | undefined,
  ) {
    this.#hostPage = native().pageSize;
    this.#canAsk =
      windows !== undefined && block.memory.offset % this.#hostPage === 0 && residencyIsTold(block.memory.fd);
  }

  /** The parts of a range that hold data, in ascending order, not merged. Offsets count from the block's start. */
  extents(start: number, end: number): Generator<Extent> {
    return this.#canAsk ? this.#byResidency(start, end) : this.#bySeeking(start, end);
  }

  *#byResidency(start: number, end: number): Generator<Extent> {
    const first = this.#nextData(start, end);
    if (first >= end) return;
    const base = first - (first % this.#hostPage);
    const pages = Math.ceil((end - base) / this.#hostPage);
    if (this.#resident.length < pages) this.#resident = new Uint8Array(pages);
    this.windows?.resident(base, end - base, this.#resident);
    for (let page = 0; page < pages; ) {
      const there = this.#isResident(page);
      let next = page + 1;
      while (next < pages && this.#isResident(next) === there) next++;
      const from = base + page * this.#hostPage;
      const to = Math.min(end, base + next * this.#hostPage);
      if (there) yield { start: from, end: to };
      else yield* this.#absentData(from, to);
      page = next;
    }
  }

  /** Pages of a range that are not resident and yet hold data: swapped out, or of a kind that is never told. */
  *#absentData(start: number, end: number): Generator<Extent> {
    for (let position = this.#nextData(start, end); position < end; ) {
      const next = Math.min(end, position - (position % this.#hostPage) + this.#hostPage);
      yield { start: position, end: next };
      position = this.#nextData(next, end);
    }
  }

  /** Where data begins in a range, `end` when nowhere; a file system that cannot tell has data everywhere. */
  #nextData(start: number, end: number): number {
    const { fd, offset } = this.block.memory;
    if (start >= end) return end;
    const found = seekData(fd, offset + start);
    if (found === 'unknown') return start;
    return found === 'none' ? end : Math.min(end, found - offset);
  }

  *#bySeeking(start: number, end: number): Generator<Extent> {
    const { usedLength, memory } = this.block;
    const { fd, offset } = memory;
    let position = start;
    if (this.#last.start <= start && start < this.#last.end) {
      position = Math.min(end, this.#last.end);
      yield { start, end: position };
    }
    while (position < end) {
      const { value: found } = dataExtents(fd, offset + position, offset + usedLength).next();
      if (found === undefined) return;
      this.#last = { start: found.start - offset, end: found.end - offset };
      if (this.#last.start >= end) return;
      position = Math.min(end, this.#last.end);
      yield { start: this.#last.start, end: position };
    }
  }

  #isResident(page: number): boolean {
    return ((this.#resident[page] ?? 0) & 1) === 1;
  }
}

/** The kernel calls every page of somebody else's file resident, so that nobody can spy on who reads what. */
function residencyIsTold(fd: number): boolean {
  const user = process.geteuid?.();
  return user === 0 || user === fstatSync(fd).uid;
}
