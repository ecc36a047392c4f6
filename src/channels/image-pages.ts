/** Pages of a mapped-ram file, read in large pieces into page-aligned memory. */
import { constants } from 'node:fs';
import { errorReason, MapramError } from '../errors.js';
import { O_DIRECT } from '../io/file/direct-io-support.js';
import { releaseFiles, reopenFile } from '../io/file/open-file.js';
import { readFully } from '../io/file/positional-io.js';
import { alignedBuffer } from '../io/memory/aligned-buffer.js';
import type { SlotBlock } from './channel-block.js';
import { type Chunk, ChunkGrid } from './file/chunk-grid.js';
import { bitRuns } from './page-bits.js';
import type { PageOrigin, PageSource, PageWishes, SourcePages } from './page-source.js';

/** What is read at a time. */
const CHUNK_BYTES = 4 << 20;

export class ImagePages implements PageSource {
  readonly chunks: number;
  readonly #path: string;
  readonly #fd: number;
  readonly #blocks: readonly SlotBlock[];
  readonly #grid: ChunkGrid;
  readonly #buffer = alignedBuffer(CHUNK_BYTES);

  constructor({ path, fd, direct, blocks }: Extract<PageOrigin, { kind: 'image' }>) {
    this.#path = path;
    try {
      this.#fd = reopenFile(fd, constants.O_RDONLY | (direct ? O_DIRECT : 0));
    } catch (cause) {
      throw new MapramError('IO', `reading ${path}: ${errorReason(cause)}`, { path, cause });
    }
    this.#blocks = blocks;
    this.#grid = new ChunkGrid(blocks, CHUNK_BYTES);
    this.chunks = this.#grid.count;
  }

  /** @throws MapramError `FORMAT` when the file ends inside the pages, `IO` */
  read(index: number, { selected, contents }: PageWishes): SourcePages | undefined {
    const chunk = this.#grid.at(index);
    if (!chunk) return undefined;
    const block = this.#blocks[chunk.blockIndex] as SlotBlock;
    const { pageSize } = block;
    const offsets: number[] = [];
    const zeros: SourcePages['zeros'] = [];
    for (const wanted of wantedRuns(chunk, selected?.[chunk.blockIndex])) {
      for (const { first, end } of bitRuns(new Uint8Array(block.bitmap), wanted.first, wanted.end, false))
        zeros.push({ offset: first * pageSize, count: end - first });
      if (!contents) continue;
      for (const { first, end } of bitRuns(new Uint8Array(block.bitmap), wanted.first, wanted.end, true)) {
        this.#read(block, first, end - first, offsets.length * pageSize);
        for (let page = first; page < end; page++) offsets.push(page * pageSize);
      }
    }
    return { block, offsets, data: this.#buffer.subarray(0, offsets.length * pageSize), zeros };
  }

  close(): void {
    releaseFiles([this.#fd]);
  }

  #read({ idstr, pageSize, pagesOffset }: SlotBlock, page: number, count: number, at: number): void {
    const path = this.#path;
    const length = count * pageSize;
    const position = pagesOffset + page * pageSize;
    let read: number;
    try {
      read = readFully(this.#fd, this.#buffer.subarray(at, at + length), position);
    } catch (cause) {
      throw new MapramError('IO', `reading ${path}: ${errorReason(cause)} at offset ${position}`, {
        ...{ path, cause },
        offset: position,
      });
    }
    if (read === length) return;
    const end = position + read;
    throw new MapramError(
      'FORMAT',
      `reading ${path}: the file ends at ${end}, inside the pages of ${idstr}; it was cut short`,
      { path, offset: end },
    );
  }
}

function wantedRuns({ firstPage, endPage }: Chunk, selected: Uint8Array | undefined) {
  return selected ? bitRuns(selected, firstPage, endPage, true) : [{ first: firstPage, end: endPage }];
}
