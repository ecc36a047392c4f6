/** Fills the digest tables of a channel's chunks, from memory while they are saved or from the image. */

import type { ChunkHasher } from '../../checksums/chunk-hash.js';
import { CHUNK_STATE, DigestTable } from '../../checksums/digest-table.js';
import { readFully } from '../../io/file/positional-io.js';
import { alignedBuffer } from '../../io/memory/aligned-buffer.js';
import { type BitRun, bitRuns, findBit } from '../page-bits.js';
import type { ChannelSetup } from './channel-protocol.js';
import type { ChannelState } from './channel-state.js';
import type { Chunk } from './chunk-grid.js';
import type { ChunkMemory } from './chunk-memory.js';

/** Read from the image at once. */
const READ_BYTES = 4 * 1024 ** 2;
/** Slots without a page are read along where they are no more than these between two with one: a read costs as much as 64 KiB of one. */
const BRIDGE_BYTES = 64 * 1024;

/** Of this thread, for one digester after the other. */
let readBuffer: Buffer | undefined;

interface DigestedBlock {
  table: DigestTable;
  bitmap: Uint8Array;
  pageSize: number;
  pagesOffset: number;
}

export class ChunkDigester {
  readonly #blocks: (DigestedBlock | undefined)[];
  #zeros: Buffer | undefined;

  constructor(
    private readonly setup: ChannelSetup,
    private readonly contents: ChunkMemory,
    private readonly state: ChannelState,
    private readonly hasher: ChunkHasher,
  ) {
    this.#blocks = setup.blocks.map(
      ({ digests, bitmap, pageSize, pagesOffset }) =>
        digests && { table: new DigestTable(digests), bitmap: new Uint8Array(bitmap), pageSize, pagesOffset },
    );
  }

  /**
   * Digests what of a piece of work was touched, from the memory that was just written to the image. While the guest
   * runs its memory may have changed since; then the page is dirty, and a later pass comes here again.
   */
  fromMemory(work: Chunk, selected: Uint8Array | undefined): void {
    const block = this.#blocks[work.blockIndex];
    if (block === undefined) return;
    const { table, bitmap, pageSize } = block;
    for (const chunk of digestChunks(work, table, pageSize)) {
      if (selected && findBit(selected, chunk.firstPage, chunk.endPage, true) === chunk.endPage) continue;
      let empty = true;
      for (const run of presentRuns(bitmap, chunk)) {
        empty = false;
        this.#hashMemory(run.first * pageSize, run.end * pageSize);
      }
      this.#finish(table, chunk.index, empty);
    }
  }

  /**
   * Reads the present pages of a piece of work and digests them, chunks left out that are done already. A chunk that
   * cannot be read is marked, not thrown.
   */
  fromImage(work: Chunk): void {
    const block = this.#blocks[work.blockIndex];
    if (block === undefined) return;
    const { table, bitmap, pageSize } = block;
    for (const chunk of digestChunks(work, table, pageSize)) {
      if (table.state(chunk.index) === CHUNK_STATE.done) continue;
      let pages = 0;
      let failure: ReadFailure | undefined;
      for (const runs of neighbours(
        presentRuns(bitmap, chunk),
        BRIDGE_BYTES / pageSize,
        READ_BYTES / pageSize,
      )) {
        for (const { first, end } of runs) pages += end - first;
        failure ??= this.#hashImage(block, runs);
      }
      this.#finish(table, chunk.index, pages === 0);
      if (failure !== undefined) table.setState(chunk.index, failure);
      this.state.count(this.setup.channel, 'normalPages', pages);
      this.state.count(this.setup.channel, 'bytes', pages * pageSize);
    }
  }

  #finish(table: DigestTable, chunk: number, empty: boolean): void {
    const digest = table.digest(chunk);
    if (empty) digest.fill(0);
    else this.hasher.finish(digest);
    table.setState(chunk, CHUNK_STATE.done);
  }

  /** Pages can be present over a hole of the memory, where zeros were written without looking: so they are hashed. */
  #hashMemory(start: number, end: number): void {
    let reached = start;
    for (const data of this.contents.data(start, end)) {
      this.#hashZeros(reached, data.start - reached);
      this.hasher.update(data.bytes, data.start);
      reached = data.end;
    }
    this.#hashZeros(reached, end - reached);
  }

  #hashZeros(offset: number, length: number): void {
    if (length === 0) return;
    this.#zeros ??= Buffer.alloc(this.setup.chunkBytes);
    this.hasher.update(this.#zeros.subarray(0, length), offset);
  }

  /** Runs that lie close together, read as one. What is wrong with a slot between them is no fault of theirs. */
  #hashImage(block: DigestedBlock, runs: readonly BitRun[]): ReadFailure | undefined {
    const first = (runs[0] as BitRun).first;
    const end = (runs.at(-1) as BitRun).end;
    const { pagesOffset, pageSize } = block;
    if (runs.length > 1) {
      const bytes = this.#readImage(pagesOffset + first * pageSize, (end - first) * pageSize);
      if (typeof bytes !== 'number') {
        for (const run of runs) {
          const part = bytes.subarray((run.first - first) * pageSize, (run.end - first) * pageSize);
          this.hasher.update(part, run.first * pageSize);
        }
        return undefined;
      }
    }
    for (const run of runs) {
      const failure = this.#hashRun(block, run);
      if (failure !== undefined) return failure;
    }
    return undefined;
  }

  #hashRun({ pagesOffset, pageSize }: DigestedBlock, { first, end }: BitRun): ReadFailure | undefined {
    const stop = pagesOffset + end * pageSize;
    for (let at = pagesOffset + first * pageSize; at < stop; at += READ_BYTES) {
      const bytes = this.#readImage(at, Math.min(READ_BYTES, stop - at));
      if (typeof bytes === 'number') return bytes;
      this.hasher.update(bytes, at - pagesOffset);
    }
    return undefined;
  }

  /** At most `READ_BYTES`; good until the next call. */
  #readImage(position: number, length: number): Buffer | ReadFailure {
    readBuffer ??= alignedBuffer(READ_BYTES);
    const target = readBuffer.subarray(0, length);
    try {
      return readFully(this.setup.fd, target, position) < length ? CHUNK_STATE.truncated : target;
    } catch {
      return CHUNK_STATE.unreadable;
    }
  }
}

type ReadFailure = typeof CHUNK_STATE.truncated | typeof CHUNK_STATE.unreadable;

interface DigestChunk {
  index: number;
  firstPage: number;
  endPage: number;
}

/** The digest chunks of a piece of work, which covers whole ones: it is as large, or a multiple. */
function* digestChunks(work: Chunk, table: DigestTable, pageSize: number): Generator<DigestChunk> {
  const { chunkBytes } = table.shape;
  const pages = chunkBytes / pageSize;
  for (let start = work.start; start < work.end; start += chunkBytes) {
    const firstPage = start / pageSize;
    yield { index: start / chunkBytes, firstPage, endPage: Math.min(firstPage + pages, work.endPage) };
  }
}

function presentRuns(bitmap: Uint8Array, { firstPage, endPage }: DigestChunk): Generator<BitRun> {
  return bitRuns(bitmap, firstPage, endPage, true);
}

/** Runs with gaps of at most `gap` pages between them, as long as they span at most `most`; a longer run is alone. */
function* neighbours(runs: Iterable<BitRun>, gap: number, most: number): Generator<BitRun[]> {
  let together: BitRun[] = [];
  for (const run of runs) {
    const [first] = together;
    const last = together.at(-1);
    if (first && last && (run.first - last.end > gap || run.end - first.first > most)) {
      yield together;
      together = [];
    }
    together.push(run);
  }
  if (together.length > 0) yield together;
}
