/** Pages of a mapped-ram file in the order of the file, read in large pieces into page-aligned memory. */
import { MapramError } from '../../errors.js';
import { FileIoError } from '../../io/file/file-io-error.js';
import { readFully } from '../../io/file/positional-io.js';
import { alignedBuffer } from '../../io/memory/aligned-buffer.js';
import { PageBitmap } from '../../mapped-ram/bitmap.js';
import type { PlacedBlock } from '../page-placer.js';
import { type Chunk, ChunkGrid } from './chunk-grid.js';

/** What is read at a time. */
export const SUPPLY_BYTES = 4 << 20;

/** Pages of one block, not necessarily neighbours. */
export interface SuppliedPages {
  block: PlacedBlock;
  /** Byte offsets in the block. */
  offsets: number[];
  /** The pages, one behind the other. Valid until the next ones are asked for. */
  data: Buffer;
}

export class PageSupply {
  /** Chunks there are; their numbers are the order of the file. */
  readonly chunks: number;
  readonly #fd: number;
  readonly #path: string;
  readonly #blocks: readonly (PlacedBlock & { present: PageBitmap })[];
  readonly #grid: ChunkGrid;
  readonly #buffer = alignedBuffer(SUPPLY_BYTES);

  /** @param fd open for reading, with O_DIRECT or not */
  constructor(fd: number, path: string, blocks: readonly PlacedBlock[]) {
    this.#fd = fd;
    this.#path = path;
    this.#blocks = blocks.map((block) => ({
      ...block,
      present: new PageBitmap(block.usedLength / block.pageSize, block.bitmap),
    }));
    this.#grid = new ChunkGrid(
      blocks.map(({ usedLength, pageSize }) => ({ length: usedLength, pageSize })),
      SUPPLY_BYTES,
    );
    this.chunks = this.#grid.count;
  }

  /**
   * The pages of chunk `index` that are in the file, undefined past the last chunk.
   *
   * @throws MapramError `FORMAT` when the file ends inside them
   */
  read(index: number): SuppliedPages | undefined {
    const chunk = this.#grid.at(index);
    if (!chunk) return undefined;
    const block = this.#blockOf(chunk);
    const { pageSize, pagesOffset, present } = block;
    const offsets: number[] = [];
    let filled = 0;
    for (const { first, count } of present.runs(chunk.firstPage, chunk.endPage)) {
      const length = count * pageSize;
      const position = pagesOffset + first * pageSize;
      const read = readAt(this.#fd, this.#buffer.subarray(filled, filled + length), position);
      if (read < length) {
        throw new MapramError(
          'FORMAT',
          `reading ${this.#path}: the file ends at ${position + read}, inside the pages of ${block.idstr}; it was cut short`,
          { path: this.#path, offset: position + read },
        );
      }
      filled += length;
      for (let page = first; page < first + count; page++) offsets.push(page * pageSize);
    }
    return { block, offsets, data: this.#buffer.subarray(0, filled) };
  }

  /** The runs of pages of chunk `index` that are zero, as byte offset and number of pages. */
  *zeroRuns(index: number): Generator<{ block: PlacedBlock; offset: number; count: number }> {
    const chunk = this.#grid.at(index);
    if (!chunk) return;
    const block = this.#blockOf(chunk);
    for (const { first, count } of block.present.clearRuns(chunk.firstPage, chunk.endPage)) {
      yield { block, offset: first * block.pageSize, count };
    }
  }

  #blockOf({ regionIndex }: Chunk): PlacedBlock & { present: PageBitmap } {
    return this.#blocks[regionIndex] as PlacedBlock & { present: PageBitmap };
  }
}

/** @throws FileIoError */
function readAt(fd: number, data: Uint8Array, position: number): number {
  try {
    return readFully(fd, data, position);
  } catch (error) {
    throw FileIoError.at(position, error);
  }
}
