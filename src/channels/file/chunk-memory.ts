/**
 * One chunk of guest memory at a time, to be looked at, hashed and written.
 *
 * The file behind a mapping belongs to a QEMU, which may cut it short at any time. A load from beyond the new end ends the whole process
 * with SIGBUS, where a read gives an error. So a chunk is copied once by read(2), and everything happens to the copy. Only memory
 * that nobody can cut, a memfd sealed against it as QEMU's are by default, is used where it is mapped.
 *
 * While the kernel writes one copy to the disk, the next chunk is copied elsewhere:
 *
 * ```
 * memory    |chunk 0|chunk 1|chunk 2|chunk 3|chunk 4| …
 * copies    |chunk 3|chunk 4|chunk 2|
 * ```
 */

import type { Extent } from '../../io/file/data-extents.js';
import type { IoQueue } from '../../io/file/linux-aio.js';
import { alignedBuffer } from '../../io/memory/aligned-buffer.js';
import type { BlockMemory } from './block-memory.js';
import type { Chunk } from './chunk-grid.js';

/** Copies of a thread together, unless a single chunk is larger. */
const COPIES_BYTES = 12 * 1024 ** 2;
/** What is copied at least: a pass over few pages does not ask for all of a chunk. */
const PIECE_BYTES = 1024 ** 2;

/** Of this thread, for one channel after the other. */
const buffers: Buffer[] = [];

function bufferOf(index: number, bytes: number): Buffer {
  if ((buffers[index]?.length ?? 0) < bytes) buffers[index] = alignedBuffer(bytes);
  return buffers[index] as Buffer;
}

export interface MemoryData extends Extent {
  bytes: Buffer;
}

export class ChunkMemory {
  readonly #copies: number;
  #turn = 0;
  #memory: BlockMemory | undefined;
  #start = 0;
  #end = 0;
  /** Of each piece that was asked for. */
  #extents: Extent[][] = [];

  constructor(
    private readonly chunkBytes: number,
    private readonly queue?: IoQueue,
  ) {
    this.#copies = Math.max(1, Math.floor(COPIES_BYTES / chunkBytes));
  }

  /** Turns to another chunk, of which nothing is read before it is asked for. */
  begin({ start, end }: Chunk, memory: BlockMemory): void {
    this.#turn = (this.#turn + 1) % this.#copies;
    this.#memory = memory;
    this.#start = start;
    this.#end = end;
    this.#extents = [];
    if (!memory.cannotShrink) this.queue?.release(bufferOf(this.#turn, this.chunkBytes).buffer);
  }

  /**
   * The parts of a range of the chunk that hold data, in ascending order.
   *
   * @throws MapramError `VM` where the memory was cut short
   */
  *data(start: number, end: number): Generator<MemoryData> {
    const piece = Math.max(PIECE_BYTES, this.#memory?.block.pageSize ?? 0);
    for (let index = Math.floor((start - this.#start) / piece); this.#start + index * piece < end; index++) {
      const from = this.#start + index * piece;
      this.#extents[index] ??= this.#load(from, Math.min(from + piece, this.#end));
      for (const extent of this.#extents[index] as Extent[]) {
        const first = Math.max(start, extent.start);
        const last = Math.min(end, extent.end);
        if (first < last) yield { start: first, end: last, bytes: this.#bytes(first, last) };
      }
    }
  }

  /** A range of data, whole; unchanged as long as it is being written by the queue. */
  bytes(start: number, end: number): Buffer {
    for (const _ of this.data(start, end));
    return this.#bytes(start, end);
  }

  #load(start: number, end: number): Extent[] {
    const memory = this.#memory as BlockMemory;
    const extents = [...memory.extents(start, end)];
    for (const extent of extents) {
      if (memory.cannotShrink) memory.populate(extent.start, extent.end - extent.start);
      else memory.copy(extent.start, this.#bytes(extent.start, extent.end));
    }
    return extents;
  }

  #bytes(start: number, end: number): Buffer {
    const memory = this.#memory as BlockMemory;
    if (memory.cannotShrink) return memory.view(start, end - start);
    return bufferOf(this.#turn, this.chunkBytes).subarray(start - this.#start, end - this.#start);
  }
}
