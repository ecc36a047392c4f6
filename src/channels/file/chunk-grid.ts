import type { WorkerRegion } from './channel-protocol.js';

/** A range of one region that one channel works on, in bytes and in pages of that region. */
export interface Chunk {
  regionIndex: number;
  start: number;
  end: number;
  firstPage: number;
  endPage: number;
}

/** All chunks of all regions in a row, found by arithmetic: no list is kept, whatever the size of the memory. */
export class ChunkGrid {
  readonly count: number;
  readonly #firstChunk: number[] = [];

  constructor(
    private readonly regions: readonly Pick<WorkerRegion, 'length' | 'pageSize'>[],
    private readonly chunkBytes: number,
  ) {
    let count = 0;
    for (const { length } of regions) {
      this.#firstChunk.push(count);
      count += Math.ceil(length / chunkBytes);
    }
    this.count = count;
  }

  /** The chunk with this index, or undefined past the last. */
  at(index: number): Chunk | undefined {
    if (index >= this.count) return undefined;
    const regionIndex = this.#firstChunk.findLastIndex((first) => first <= index);
    const region = this.regions[regionIndex];
    const first = this.#firstChunk[regionIndex];
    if (region === undefined || first === undefined) return undefined;
    const start = (index - first) * this.chunkBytes;
    const end = Math.min(start + this.chunkBytes, region.length);
    return { regionIndex, start, end, firstPage: start / region.pageSize, endPage: end / region.pageSize };
  }
}
