import type { OperationOptions } from '../progress.js';
import type { Bytes, Count } from '../units.js';
import type { SavedBlock, SavedVm } from './saved-vm.js';

/** A range of a block that differs. */
export interface DifferentRange {
  /** Byte of the block. */
  readonly offset: Bytes;
  /** Bytes, whole pages. */
  readonly length: Bytes;
  /** Guest-physical address of its first byte, where that is known in the newer file. */
  readonly guestAddress?: Bytes;
}

export interface BlockComparison {
  readonly idstr: string;
  readonly status: 'equal' | 'different' | 'only-before' | 'only-after';
  /** Bytes; absent in the file that does not have the block. */
  readonly usedLengthBefore?: Bytes;
  readonly usedLengthAfter?: Bytes;
  /** Pages of the length that both have. */
  readonly differentPages: Count;
  readonly differentBytes: Bytes;
  /** In ascending order; neighbouring pages are one range. */
  readonly ranges: readonly DifferentRange[];
}

/** Parts of blocks that need not be read. */
export interface EqualChunks {
  /** Bytes a chunk, a multiple of the page size. */
  readonly chunkBytes: number;
  /** Whether chunk `index` of a block is known to be the same in both files. */
  isEqual(idstr: string, index: number): boolean;
}

export interface CompareOptions extends OperationOptions {
  /** Chunks that are known to be equal without being read, e.g. from checksums in both files. */
  readonly equalChunks?: EqualChunks | undefined;
}

/** Read at once from each file. */
const WINDOW_BYTES = 2 ** 20;

interface Range {
  start: number;
  end: number;
}

/** Compares every block of two files. */
export async function compareBlocks(
  before: SavedVm,
  after: SavedVm,
  options: CompareOptions,
): Promise<{ blocks: BlockComparison[]; readBytes: number; unreadBytes: number }> {
  const comparer = new MemoryComparer(before, after, options);
  const blocks: BlockComparison[] = [];
  for (const block of before.blocks) {
    const other = after.block(block.idstr);
    blocks.push(other === undefined ? onlyBefore(block) : await comparer.compare(block, other));
  }
  for (const block of after.blocks)
    if (before.block(block.idstr) === undefined) blocks.push(onlyAfter(block));
  return { blocks, readBytes: comparer.readBytes, unreadBytes: comparer.unreadBytes };
}

function onlyBefore({ idstr, usedLength }: SavedBlock): BlockComparison {
  const nothing = { differentPages: 0, differentBytes: 0, ranges: [] };
  return { idstr, status: 'only-before', usedLengthBefore: usedLength, ...nothing };
}

function onlyAfter({ idstr, usedLength }: SavedBlock): BlockComparison {
  const nothing = { differentPages: 0, differentBytes: 0, ranges: [] };
  return { idstr, status: 'only-after', usedLengthAfter: usedLength, ...nothing };
}

class MemoryComparer {
  readBytes = 0;
  unreadBytes = 0;
  /** Bytes of a page; the larger where the files differ. */
  readonly #unit: number;
  readonly #totalBytes: number;
  readonly #started = performance.now();
  #doneBytes = 0;

  constructor(
    private readonly before: SavedVm,
    private readonly after: SavedVm,
    private readonly options: CompareOptions,
  ) {
    this.#unit = Math.max(before.pageSize, after.pageSize);
    let total = 0;
    for (const block of before.blocks) {
      const other = after.block(block.idstr);
      if (other === undefined) continue;
      for (const { start, end } of this.#contents(block, other)) total += end - start;
    }
    this.#totalBytes = total;
  }

  async compare(block: SavedBlock, other: SavedBlock): Promise<BlockComparison> {
    const ranges: Range[] = [];
    for (const content of this.#contents(block, other)) {
      for (let start = content.start; start < content.end; ) {
        this.options.signal?.throwIfAborted();
        const end = Math.min(content.end, start - (start % WINDOW_BYTES) + WINDOW_BYTES);
        if (this.#knownEqual(block.idstr, start, end)) this.unreadBytes += end - start;
        else await this.#window(block, other, { start, end }, ranges);
        this.#progress(end - start);
        start = end;
      }
    }
    const differentBytes = ranges.reduce((sum, { start, end }) => sum + end - start, 0);
    const resized = block.usedLength !== other.usedLength;
    return {
      idstr: block.idstr,
      status: resized || differentBytes > 0 ? 'different' : 'equal',
      usedLengthBefore: block.usedLength,
      usedLengthAfter: other.usedLength,
      differentPages: differentBytes / this.#unit,
      differentBytes,
      ranges: ranges.flatMap((range) => this.#placed(block.idstr, range)),
    };
  }

  /** Compares one stretch and appends what differs to `ranges`. */
  async #window(block: SavedBlock, other: SavedBlock, { start, end }: Range, ranges: Range[]): Promise<void> {
    const [old, now] = await Promise.all([
      readBytes(this.before, block, start, end),
      readBytes(this.after, other, start, end),
    ]);
    this.readBytes += old.byteLength + now.byteLength;
    if (old.compare(now) === 0) return;
    for (let at = 0; at < old.byteLength; at += this.#unit) {
      const limit = at + this.#unit;
      if (old.compare(now, at, limit, at, limit) === 0) continue;
      const last = ranges.at(-1);
      if (last?.end === start + at) last.end = start + limit;
      else ranges.push({ start: start + at, end: start + limit });
    }
  }

  /** The ranges that either file holds contents for, within the length that both have: all else is zero in both. */
  #contents(block: SavedBlock, other: SavedBlock): Generator<Range> {
    const unit = this.#unit;
    const common = Math.floor(Math.min(block.usedLength, other.usedLength) / unit) * unit;
    return union(contents(this.before, block, unit), contents(this.after, other, unit), common);
  }

  #knownEqual(idstr: string, start: number, end: number): boolean {
    const { equalChunks } = this.options;
    if (equalChunks === undefined) return false;
    const { chunkBytes } = equalChunks;
    for (let index = Math.floor(start / chunkBytes); index * chunkBytes < end; index++) {
      if (!equalChunks.isEqual(idstr, index)) return false;
    }
    return true;
  }

  /** A range of a block as guest memory: one where it lies in one piece, more where the PCI hole interrupts it. */
  #placed(idstr: string, { start, end }: Range): DifferentRange[] {
    const pieces: DifferentRange[] = [];
    for (const region of this.after.guestMap.regions) {
      const from = Math.max(start, region.blockOffset);
      const to = Math.min(end, region.blockOffset + region.length);
      if (region.idstr !== idstr || from >= to) continue;
      pieces.push({
        offset: from,
        length: to - from,
        guestAddress: region.start + from - region.blockOffset,
      });
    }
    return pieces.length > 0 ? pieces : [{ offset: start, length: end - start }];
  }

  #progress(bytes: number): void {
    this.#doneBytes += bytes;
    const seconds = Math.max(1e-3, (performance.now() - this.#started) / 1000);
    this.options.onProgress?.({
      phase: 'comparing',
      bytes: this.#doneBytes,
      totalBytes: this.#totalBytes,
      pages: Math.floor(this.#doneBytes / this.#unit),
      rate: Math.round(this.#doneBytes / seconds),
    });
  }
}

async function readBytes(saved: SavedVm, block: SavedBlock, start: number, end: number): Promise<Buffer> {
  const { pageSize } = block;
  const bytes = await saved.readPages(block, start / pageSize, (end - start) / pageSize);
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function* contents(saved: SavedVm, block: SavedBlock, unit: number): Generator<Range> {
  for (const { first, count } of saved.runs(block)) {
    const start = first * block.pageSize;
    const end = start + count * block.pageSize;
    yield { start: Math.floor(start / unit) * unit, end: Math.ceil(end / unit) * unit };
  }
}

/** The union of two ascending lists of ranges, cut off at `limit`. */
function* union(one: Iterator<Range>, other: Iterator<Range>, limit: number): Generator<Range> {
  let [left, right] = [one.next(), other.next()];
  let current: Range | undefined;
  for (;;) {
    const takeLeft = !left.done && (right.done || left.value.start <= right.value.start);
    if (!takeLeft && right.done) break;
    const range = (takeLeft ? left.value : right.value) as Range;
    if (takeLeft) left = one.next();
    else right = other.next();
    if (current !== undefined && range.start <= current.end) {
      current.end = Math.max(current.end, range.end);
      continue;
    }
    if (current !== undefined && current.start < limit) yield clipped(current, limit);
    current = { ...range };
  }
  if (current !== undefined && current.start < limit) yield clipped(current, limit);
}

function clipped({ start, end }: Range, limit: number): Range {
  return { start, end: Math.min(end, limit) };
}
