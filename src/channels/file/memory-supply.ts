/** Pages of memory that may be in use meanwhile, in pieces of one multifd packet at most, zero pages told apart. */
import { MULTIFD_PACKET_PAYLOAD_BYTES } from '../../stream/multifd-packet.js';
import { testBit } from '../page-bits.js';
import { isZeroPage, wordsOf } from '../zero-page.js';
import type { WorkerMemory } from './channel-protocol.js';
import { ChunkGrid } from './chunk-grid.js';
import { assertWhole, CopyBuffer, RegionMemory } from './region-memory.js';

/** A RAM block whose memory is sent. */
export interface SuppliedMemory extends WorkerMemory {
  idstr: string;
}

/** What of one piece of a block is to be sent. */
export interface MemoryPages {
  block: SuppliedMemory;
  /** Byte offsets in the block of pages with contents. */
  offsets: number[];
  /** Those pages, one behind the other: copies. Valid until the next piece is asked for. */
  data: Buffer;
  /** Byte offsets of zero pages. */
  zeroOffsets: number[];
}

export class MemorySupply {
  /** Pieces there are. */
  readonly chunks: number;
  readonly #memories: readonly RegionMemory<SuppliedMemory>[];
  readonly #grid: ChunkGrid;
  /** What was read, and what of it goes out. */
  readonly #read = Buffer.alloc(MULTIFD_PACKET_PAYLOAD_BYTES);
  readonly #copy = Buffer.alloc(MULTIFD_PACKET_PAYLOAD_BYTES);

  constructor(blocks: readonly SuppliedMemory[]) {
    const copies = new CopyBuffer(MULTIFD_PACKET_PAYLOAD_BYTES);
    this.#memories = blocks.map((block) => new RegionMemory(block, copies));
    this.#grid = new ChunkGrid(blocks, MULTIFD_PACKET_PAYLOAD_BYTES);
    this.chunks = this.#grid.count;
  }

  /**
   * Piece `index`, undefined past the last one. Pages are copied before anybody sees them: what is sent of a page
   * does not change on the way, whatever the guest does.
   *
   * @param selected for each block a bit a page; absent for all pages
   * @param detectZeros whether zero pages are told apart; otherwise they are pages like others
   */
  read(
    index: number,
    selected: readonly Uint8Array[] | undefined,
    detectZeros: boolean,
  ): MemoryPages | undefined {
    const chunk = this.#grid.at(index);
    if (!chunk) return undefined;
    const memory = this.#memories[chunk.regionIndex] as RegionMemory<SuppliedMemory>;
    const { pageSize } = memory.region;
    const wanted = selected?.[chunk.regionIndex];
    const offsets: number[] = [];
    const zeroOffsets: number[] = [];
    let filled = 0;
    const isWanted = (offset: number) => wanted === undefined || testBit(wanted, offset / pageSize);
    const addZeros = (from: number, to: number) => {
      for (let offset = from; offset < to; offset += pageSize) {
        if (!isWanted(offset)) continue;
        if (detectZeros) zeroOffsets.push(offset);
        else {
          this.#copy.fill(0, filled, filled + pageSize);
          filled += pageSize;
          offsets.push(offset);
        }
      }
    };
    let reached = chunk.start;
    for (const { start, end } of memory.extents(chunk.start, chunk.end)) {
      addZeros(reached, start);
      reached = end;
      const bytes = this.#read.subarray(0, end - start);
      memory.copy(start, bytes);
      for (let offset = start; offset < end; offset += pageSize) {
        if (!isWanted(offset)) continue;
        const page = this.#copy.subarray(filled, filled + pageSize);
        bytes.copy(page, 0, offset - start, offset - start + pageSize);
        if (detectZeros && isZeroPage(page, wordsOf(page), 0, pageSize)) zeroOffsets.push(offset);
        else {
          filled += pageSize;
          offsets.push(offset);
        }
      }
    }
    addZeros(reached, chunk.end);
    // Beyond the end of memory that was cut short there are holes only.
    assertWhole(memory.region);
    return { block: memory.region, offsets, data: this.#copy.subarray(0, filled), zeroOffsets };
  }
}
