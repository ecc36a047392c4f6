/** Pages of memory that may be in use meanwhile, in pieces of one multifd packet at most, zero pages told apart. */
import { MULTIFD_PACKET_PAYLOAD_BYTES } from '../stream/multifd-packet.js';
import type { MemoryBlock } from './channel-block.js';
import { assertWhole, BlockMemory, CopyBuffer } from './file/block-memory.js';
import { type Chunk, ChunkGrid } from './file/chunk-grid.js';
import { testBit } from './page-bits.js';
import type { PageOrigin, PageSource, PageWishes, SourcePages } from './page-source.js';
import { isZeroPage, wordsOf } from './zero-page.js';

export class MemoryPages implements PageSource {
  readonly chunks: number;
  readonly #memories: readonly BlockMemory<MemoryBlock>[];
  readonly #grid: ChunkGrid;
  readonly #detectZeros: boolean;
  /** What was read, and what of it goes out. */
  readonly #read = Buffer.alloc(MULTIFD_PACKET_PAYLOAD_BYTES);
  readonly #copy = Buffer.alloc(MULTIFD_PACKET_PAYLOAD_BYTES);

  constructor({ blocks, detectZeros }: Extract<PageOrigin, { kind: 'memory' }>) {
    const copies = new CopyBuffer(MULTIFD_PACKET_PAYLOAD_BYTES);
    this.#memories = blocks.map((block) => new BlockMemory(block, copies));
    this.#grid = new ChunkGrid(blocks, MULTIFD_PACKET_PAYLOAD_BYTES);
    this.#detectZeros = detectZeros;
    this.chunks = this.#grid.count;
  }

  /**
   * Pages are copied before anybody sees them: what is sent of a page does not change on the way, whatever the guest does.
   *
   * @throws MapramError `VM` where the memory was cut short
   */
  read(index: number, { selected, contents }: PageWishes): SourcePages | undefined {
    const chunk = this.#grid.at(index);
    if (!chunk) return undefined;
    const memory = this.#memories[chunk.blockIndex] as BlockMemory<MemoryBlock>;
    const { pageSize } = memory.block;
    const wanted = selected?.[chunk.blockIndex];
    const offsets: number[] = [];
    const zeros: SourcePages['zeros'] = [];
    for (const { start, end, bytes } of this.#stretches(memory, chunk)) {
      for (let offset = start; offset < end; offset += pageSize) {
        if (wanted && !testBit(wanted, offset / pageSize)) continue;
        const page = this.#copy.subarray(offsets.length * pageSize, (offsets.length + 1) * pageSize);
        if (bytes === undefined) page.fill(0);
        else bytes.copy(page, 0, offset - start, offset - start + pageSize);
        if (this.#detectZeros && isZeroPage(page, wordsOf(page), 0, pageSize))
          zeros.push({ offset, count: 1 });
        else if (contents) offsets.push(offset);
      }
    }
    // Beyond the end of memory that was cut short there are holes only.
    assertWhole(memory.block);
    return { block: memory.block, offsets, data: this.#copy.subarray(0, offsets.length * pageSize), zeros };
  }

  close(): void {}

  /** All of a chunk in order: copies of what holds data, and holes, which have no bytes. */
  *#stretches(
    memory: BlockMemory<MemoryBlock>,
    chunk: Chunk,
  ): Generator<{ start: number; end: number; bytes?: Buffer }> {
    let reached = chunk.start;
    for (const { start, end } of memory.extents(chunk.start, chunk.end)) {
      if (start > reached) yield { start: reached, end: start };
      const bytes = this.#read.subarray(0, end - start);
      memory.copy(start, bytes);
      yield { start, end, bytes };
      reached = end;
    }
    if (reached < chunk.end) yield { start: reached, end: chunk.end };
  }
}
