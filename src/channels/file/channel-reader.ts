/**
 * The loading half of a channel: pages of one chunk come from their slots into memory. Pages whose bit is clear are made zero
 * there, whatever the memory held (QEMU before 10.2 leaves them alone and relies on fresh memory).
 */
import { FileIoError } from '../../io/file/file-io-error.js';
import type { IoQueue } from '../../io/file/linux-aio.js';
import { readWhole } from '../../io/file/positional-io.js';
import { bitRuns, findBit } from '../page-bits.js';
import type { BlockMemory } from './block-memory.js';
import type { ChannelSetup, PassRequest } from './channel-protocol.js';
import type { ChannelState } from './channel-state.js';
import type { Chunk } from './chunk-grid.js';

type ReadRequest = Extract<PassRequest, { kind: 'read' }>;

export class ChannelReader {
  readonly #bitmaps: Uint8Array[];

  constructor(
    private readonly setup: ChannelSetup,
    private readonly memories: readonly (BlockMemory | undefined)[],
    private readonly state: ChannelState,
    /** For what is read into mapped memory: it is made ready for the next pages meanwhile. */
    private readonly queue?: IoQueue,
  ) {
    this.#bitmaps = setup.blocks.map(({ bitmap }) => new Uint8Array(bitmap));
  }

  /** Loads the pages of one chunk that are asked for. */
  read(chunk: Chunk, request: ReadRequest): void {
    const selected = request.selected?.[chunk.blockIndex];
    if (selected === undefined) {
      this.#readPages(chunk, chunk.firstPage, chunk.endPage);
      return;
    }
    for (const { first, end } of bitRuns(selected, chunk.firstPage, chunk.endPage, true))
      this.#readPages(chunk, first, end);
  }

  #readPages(chunk: Chunk, first: number, end: number): void {
    const memory = this.memories[chunk.blockIndex];
    const bitmap = this.#bitmaps[chunk.blockIndex];
    if (memory === undefined || bitmap === undefined) throw new RangeError(`no block ${chunk.blockIndex}`);
    const { pageSize, pagesOffset } = memory.block;
    const { channel } = this.setup;
    for (let page = first; page < end; ) {
      const present = findBit(bitmap, page, page + 1, true) === page;
      const next = findBit(bitmap, page, end, !present);
      if (present) {
        const length = (next - page) * pageSize;
        const slot = pagesOffset + page * pageSize;
        memory.write(page * pageSize, length, (target) => this.#fill(target, slot, memory));
        this.state.count(channel, 'normalPages', next - page);
        this.state.count(channel, 'bytes', length);
      } else {
        memory.clear(page * pageSize, next * pageSize);
        this.state.count(channel, 'duplicatePages', next - page);
      }
      page = next;
    }
  }

  #fill(target: Buffer, slot: number, { block }: BlockMemory): void {
    const { fd } = this.setup;
    try {
      if (this.queue && block.memory.map) this.queue.read(fd, target, slot);
      else readWhole(fd, target, slot);
    } catch (error) {
      throw FileIoError.at(slot, error);
    }
  }
}
