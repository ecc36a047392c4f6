/**
 * Digests pages as they arrive on the connections of a stream, so that the file need not be read back for them. What was
 * digested and then came again is left to be read at the end.
 */
import { type ChunkHasher, createChunkHasher, createPageSum, type PageSum } from './chunk-hash.js';
import { CHUNK_STATE, DigestTable, type DigestTableShape } from './digest-table.js';

export interface ArrivalDigester {
  /**
   * Whole pages that are now present, from `offset` of the block on.
   *
   * @param first whether none of them was present before
   */
  pages(idstr: string, offset: number, bytes: Uint8Array, first: boolean): void;
  /** Pages that were present and are zero now, or changed in a way that is not known here. */
  changed(idstr: string, offset: number, length: number): void;
  /** No pages come any more. */
  finish(): void;
}

/** What is known of a block whose pages arrive. */
export interface ArrivingBlock {
  idstr: string;
  pageSize: number;
  /** The table to fill; without one the block is not digested. */
  digests?: DigestTableShape;
}

/**
 * @param connections by which pages come, each with a digester of its own
 * @returns undefined where pages cannot be digested as they arrive
 */
export function arrivalDigester(
  blocks: readonly ArrivingBlock[],
  connections: number,
): ArrivalDigester | undefined {
  const shapes = new Map(blocks.flatMap(({ idstr, digests }) => (digests ? [[idstr, digests]] : [])));
  const [first] = shapes.values();
  const [block] = blocks;
  if (first === undefined || block === undefined) return undefined;
  const { algorithm } = first;
  if (algorithm === 'xxh64-pages') return new SummedArrivals(createPageSum(block.pageSize), shapes);
  return connections === 1
    ? new OrderedArrivals(createChunkHasher(algorithm, block.pageSize), shapes)
    : undefined;
}

/** Runs of pages, cut at the ends of chunks. */
function* chunksOf(
  chunkBytes: number,
  offset: number,
  bytes: Uint8Array,
): Generator<{ chunk: number; at: number; part: Uint8Array }> {
  for (let done = 0; done < bytes.length; ) {
    const at = offset + done;
    const chunk = Math.floor(at / chunkBytes);
    const end = Math.min(bytes.length, (chunk + 1) * chunkBytes - offset);
    yield { chunk, at, part: bytes.subarray(done, end) };
    done = end;
  }
}

function* chunkNumbers(chunkBytes: number, offset: number, length: number): Generator<number> {
  const last = Math.floor((offset + length - 1) / chunkBytes);
  for (let chunk = Math.floor(offset / chunkBytes); chunk <= last; chunk++) yield chunk;
}

/** On several connections at once, in any order: each adds what it gets to the sums that all share. */
class SummedArrivals implements ArrivalDigester {
  readonly #sum: PageSum;
  readonly #tables = new Map<string, DigestTable>();

  constructor(sum: PageSum, shapes: ReadonlyMap<string, DigestTableShape>) {
    this.#sum = sum;
    for (const [idstr, shape] of shapes) this.#tables.set(idstr, new DigestTable(shape));
  }

  pages(idstr: string, offset: number, bytes: Uint8Array, first: boolean): void {
    const table = this.#tables.get(idstr);
    if (!table) return;
    if (!first) {
      this.changed(idstr, offset, bytes.length);
      return;
    }
    for (const { chunk, at, part } of chunksOf(table.shape.chunkBytes, offset, bytes)) {
      if (table.state(chunk) !== CHUNK_STATE.stale) table.add(chunk, this.#sum(part, at));
    }
  }

  changed(idstr: string, offset: number, length: number): void {
    const table = this.#tables.get(idstr);
    if (!table) return;
    for (const chunk of chunkNumbers(table.shape.chunkBytes, offset, length))
      table.setState(chunk, CHUNK_STATE.stale);
  }

  finish(): void {}
}

const UNTOUCHED = 0;
const TOUCHED = 1;
const STALE = 2;

/** A block whose chunks are digested. */
class DigestedBlock {
  readonly table: DigestTable;
  readonly chunks: Uint8Array;

  constructor(shape: DigestTableShape) {
    this.table = new DigestTable(shape);
    this.chunks = new Uint8Array(this.table.count);
  }

  get chunkBytes(): number {
    return this.table.shape.chunkBytes;
  }
}

interface OpenChunk {
  block: DigestedBlock;
  chunk: number;
  /** Where the next page may begin at the earliest. */
  next: number;
}

/**
 * On the one connection of a plain stream. QEMU sends RAM in ascending order, so most chunks come once and in one go:
 *
 * ```
 * arriving     | chunk 0 pages … | chunk 1 pages … | chunk 0 page | …
 * chunk 0        hashed … done                       stale: no digest any more
 * ```
 */
class OrderedArrivals implements ArrivalDigester {
  readonly #hasher: ChunkHasher;
  readonly #blocks = new Map<string, DigestedBlock>();
  #open: OpenChunk | undefined;

  constructor(hasher: ChunkHasher, shapes: ReadonlyMap<string, DigestTableShape>) {
    this.#hasher = hasher;
    for (const [idstr, shape] of shapes) this.#blocks.set(idstr, new DigestedBlock(shape));
  }

  pages(idstr: string, offset: number, bytes: Uint8Array): void {
    const block = this.#blocks.get(idstr);
    if (!block) return;
    for (const { chunk, at, part } of chunksOf(block.chunkBytes, offset, bytes))
      this.#take(block, chunk, at, part);
  }

  changed(idstr: string, offset: number, length: number): void {
    const block = this.#blocks.get(idstr);
    if (!block) return;
    for (const chunk of chunkNumbers(block.chunkBytes, offset, length)) this.#spoil(block, chunk);
  }

  finish(): void {
    const open = this.#open;
    if (!open) return;
    const { block, chunk } = open;
    this.#hasher.finish(block.table.digest(chunk));
    block.table.setState(chunk, CHUNK_STATE.done);
    this.#open = undefined;
  }

  #take(block: DigestedBlock, chunk: number, at: number, bytes: Uint8Array): void {
    if (this.#open?.block !== block || this.#open.chunk !== chunk) {
      this.finish();
      if (block.chunks[chunk] === UNTOUCHED) {
        block.chunks[chunk] = TOUCHED;
        this.#open = { block, chunk, next: at };
      }
    }
    if (this.#open === undefined || at < this.#open.next) this.#spoil(block, chunk);
    else {
      this.#hasher.update(bytes, at);
      this.#open.next = at + bytes.length;
    }
  }

  #spoil(block: DigestedBlock, chunk: number): void {
    if (this.#open?.block === block && this.#open.chunk === chunk) this.finish();
    block.chunks[chunk] = STALE;
    block.table.setState(chunk, CHUNK_STATE.none);
  }
}
