/**
 * The loading half of a channel: pages of one chunk come from their slots into memory. Pages whose bit is clear are made zero
 * there, whatever the memory held (QEMU before 10.2 leaves them alone and relies on fresh memory).
 */
import { fileSize } from '../io/file-space.js';
import type { IoQueue } from '../io/linux-aio.js';
import { readFully } from '../io/positional-io.js';
import { channelIoError, endOfImage } from './channel-io-error.js';
import type { ChannelSetup, PassRequest } from './channel-protocol.js';
import type { ChannelState } from './channel-state.js';
import type { Chunk } from './chunk-grid.js';
import { findBit } from './page-bits.js';
import type { RegionMemory } from './region-memory.js';

type ReadRequest = Extract<PassRequest, { kind: 'read' }>;

export class ChannelReader {
  readonly #bitmaps: Uint8Array[];

  constructor(
    private readonly setup: ChannelSetup,
    private readonly memories: RegionMemory[],
    private readonly state: ChannelState,
    /** For what is read into mapped memory: it is made ready for the next pages meanwhile. */
    private readonly queue?: IoQueue,
  ) {
    this.#bitmaps = setup.regions.map(({ bitmap }) => new Uint8Array(bitmap));
  }

  /** Loads the pages of one chunk that are asked for. */
  read(chunk: Chunk, request: ReadRequest): void {
    const selected = request.selected?.[chunk.regionIndex];
    if (selected === undefined) {
      this.#readPages(chunk, chunk.firstPage, chunk.endPage);
      return;
    }
    let page = findBit(selected, chunk.firstPage, chunk.endPage, true);
    while (page < chunk.endPage) {
      const end = findBit(selected, page, chunk.endPage, false);
      this.#readPages(chunk, page, end);
      page = findBit(selected, end, chunk.endPage, true);
    }
  }

  #readPages(chunk: Chunk, first: number, end: number): void {
    const memory = this.memories[chunk.regionIndex];
    const bitmap = this.#bitmaps[chunk.regionIndex];
    if (memory === undefined || bitmap === undefined) throw new RangeError(`no region ${chunk.regionIndex}`);
    const { pageSize, pagesOffset } = memory.region;
    const { channel } = this.setup;
    for (let page = first; page < end; ) {
      const present = findBit(bitmap, page, page + 1, true) === page;
      const next = findBit(bitmap, page, end, !present);
      if (present) {
        const length = (next - page) * pageSize;
        const slot = pagesOffset + page * pageSize;
        memory.write(page * pageSize, length, (target) => this.#fill(target, slot, memory));
        this.state.add(channel, 'normalPages', next - page);
        this.state.add(channel, 'bytes', length);
      } else {
        memory.clear(page * pageSize, next * pageSize);
        this.state.add(channel, 'duplicatePages', next - page);
      }
      page = next;
    }
  }

  /** The end of a pass: all pages are there. */
  finish(): void {
    try {
      this.queue?.drain();
    } catch (error) {
      throw channelIoError(error);
    }
  }

  #fill(target: Buffer, slot: number, { region }: RegionMemory): void {
    const { fd } = this.setup;
    try {
      if (this.queue && region.map) this.queue.read(fd, target, slot);
      else {
        const read = readFully(fd, target, slot);
        if (read < target.length) throw endOfImage(Math.min(slot + read, fileSize(fd)));
      }
    } catch (error) {
      throw channelIoError(error, slot);
    }
  }
}
