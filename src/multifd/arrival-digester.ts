/**
 * Digests pages as they arrive on the one connection of a plain stream. QEMU sends RAM in ascending order, so most
 * chunks come once and in one go:
 *
 * ```
 * arriving     | chunk 0 pages … | chunk 1 pages … | chunk 0 page | …
 * chunk 0        hashed … done                       stale: no digest any more
 * ```
 *
 * A chunk with pages out of order, or pages that come again, is left without a digest: it must be read back at the end.
 */
import type { ChunkHasher } from './chunk-hash.js';
import { CHUNK_STATE, DigestTable, type DigestTableShape } from './digest-table.js';

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

export class ArrivalDigester {
  readonly #hasher: ChunkHasher;
  readonly #blocks = new Map<string, DigestedBlock>();
  #open: OpenChunk | undefined;

  /** @param shapes the tables to fill, by the idstr of their blocks; blocks without one are not digested */
  constructor(hasher: ChunkHasher, shapes: ReadonlyMap<string, DigestTableShape>) {
    this.#hasher = hasher;
    for (const [idstr, shape] of shapes) this.#blocks.set(idstr, new DigestedBlock(shape));
  }

  /** Whole pages that are now present, from `offset` of the block on. */
  pages(idstr: string, offset: number, bytes: Uint8Array): void {
    const block = this.#blocks.get(idstr);
    if (!block) return;
    const { chunkBytes } = block;
    for (let done = 0; done < bytes.length; ) {
      const at = offset + done;
      const chunk = Math.floor(at / chunkBytes);
      const end = Math.min(bytes.length, (chunk + 1) * chunkBytes - offset);
      this.#take(block, chunk, at, bytes.subarray(done, end));
      done = end;
    }
  }

  /** Pages that were present and are zero now, or changed in a way that is not known here. */
  changed(idstr: string, offset: number, length: number): void {
    const block = this.#blocks.get(idstr);
    if (!block) return;
    const last = Math.floor((offset + length - 1) / block.chunkBytes);
    for (let chunk = Math.floor(offset / block.chunkBytes); chunk <= last; chunk++) this.#spoil(block, chunk);
  }

  /** No pages come any more. */
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
      this.#hasher.update(bytes);
      this.#open.next = at + bytes.length;
    }
  }

  #spoil(block: DigestedBlock, chunk: number): void {
    if (this.#open?.block === block && this.#open.chunk === chunk) this.finish();
    block.chunks[chunk] = STALE;
    block.table.setState(chunk, CHUNK_STATE.none);
  }
}
