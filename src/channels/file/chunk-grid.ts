import type { ChannelBlock } from '../channel-block.js';

/** A range of one block that one channel works on, in bytes and in pages of that block. */
export interface Chunk {
  blockIndex: number;
  start: number;
  end: number;
  firstPage: number;
  endPage: number;
}

/** All chunks of all blocks in a row, found by arithmetic: no list is kept, whatever the size of the memory. */
export class ChunkGrid {
  readonly count: number;
  readonly #firstChunk: number[] = [];

  constructor(
    private readonly blocks: readonly Pick<ChannelBlock, 'usedLength' | 'pageSize'>[],
    private readonly chunkBytes: number,
  ) {
    let count = 0;
    for (const { usedLength } of blocks) {
      this.#firstChunk.push(count);
      count += Math.ceil(usedLength / chunkBytes);
    }
    this.count = count;
  }

  /** The chunk with this index, or undefined past the last. */
  at(index: number): Chunk | undefined {
    if (index >= this.count) return undefined;
    const blockIndex = this.#firstChunk.findLastIndex((first) => first <= index);
    const block = this.blocks[blockIndex];
    const first = this.#firstChunk[blockIndex];
    if (block === undefined || first === undefined) return undefined;
    const start = (index - first) * this.chunkBytes;
    const end = Math.min(start + this.chunkBytes, block.usedLength);
    return { blockIndex, start, end, firstPage: start / block.pageSize, endPage: end / block.pageSize };
  }
}
