/**
 * The saving half of a channel: pages of one chunk go from memory to their slots.
 *
 * Each page of the chunk gets one of these states, then runs of equal states are acted on together:
 *
 * | state | meaning | what happens |
 * |---|---|---|
 * | SKIP | not asked for in this pass | nothing |
 * | DATA | must be in the image | written, bit set |
 * | ZERO | zero | bit cleared; a slot written in an earlier pass is punched |
 * | HOLE | in a hole of the memory | as ZERO; the hole is never read |
 * | FILL | in a hole, but zero pages are wanted too | zeros written from a buffer, the hole stays unread; bit set |
 */

import { FileIoError } from '../../io/file/file-io-error.js';
import { punchHole } from '../../io/file/file-space.js';
import type { IoQueue } from '../../io/file/linux-aio.js';
import { writeFully } from '../../io/file/positional-io.js';
import { alignedBuffer } from '../../io/memory/aligned-buffer.js';
import type { ChannelBlock } from '../channel-block.js';
import { bitRuns, clearBits, findBit, setBits, testBit } from '../page-bits.js';
import { isZeroPage, wordsOf } from '../zero-page.js';
import type { BlockMemory } from './block-memory.js';
import type { ChannelSetup, PassRequest } from './channel-protocol.js';
import type { ChannelState } from './channel-state.js';
import type { ChunkDigester } from './chunk-digester.js';
import type { Chunk } from './chunk-grid.js';
import type { ChunkMemory } from './chunk-memory.js';
import { DropBehind } from './drop-behind.js';
import { releasingUnusedSlots, SlotAllocator } from './slot-allocation.js';

const SKIP = 0;
const DATA = 1;
const ZERO = 2;
const HOLE = 3;
const FILL = 4;

type WriteRequest = Extract<PassRequest, { kind: 'write' }>;
type ScanRequest = Extract<PassRequest, { kind: 'scan' }>;

export class ChannelWriter {
  readonly #states: Uint8Array;
  readonly #bitmaps: Uint8Array[];
  #zeros: Buffer | undefined;
  readonly #behind: DropBehind;
  readonly #allocator: SlotAllocator;
  #canPunch = true;

  constructor(
    private readonly setup: ChannelSetup,
    private readonly memories: readonly (BlockMemory | undefined)[],
    private readonly contents: ChunkMemory,
    private readonly state: ChannelState,
    private readonly digester?: ChunkDigester,
    /** For what is written from mapped memory: the next pages are looked at and hashed meanwhile. */
    private readonly queue?: IoQueue,
  ) {
    const smallestPage = Math.min(...setup.blocks.map(({ pageSize }) => pageSize));
    this.#states = new Uint8Array(Math.ceil(setup.chunkBytes / smallestPage));
    this.#bitmaps = setup.blocks.map(({ bitmap }) => new Uint8Array(bitmap));
    this.#allocator = new SlotAllocator(setup.fd);
    this.#behind = new DropBehind(setup.fd, setup.dropBehind);
  }

  /** Writes what has to be written of one chunk. Returns how many bytes of pages that were. */
  write(chunk: Chunk, request: WriteRequest): number {
    const selected = request.selected?.[chunk.blockIndex];
    if (selected && findBit(selected, chunk.firstPage, chunk.endPage, true) === chunk.endPage) return 0;
    this.contents.begin(chunk, this.#memoryOf(chunk));
    const found = request.found?.[chunk.blockIndex];
    const states = this.#states.subarray(0, chunk.endPage - chunk.firstPage);
    if (found !== undefined) this.#statesFromScan(chunk, states, new Uint8Array(found));
    else if (request.detectZeroPages) this.#statesByLooking(chunk, states, selected);
    else this.#statesOfEverything(chunk, states);
    if (selected !== undefined) {
      for (let page = 0; page < states.length; page++) {
        if (!testBit(selected, chunk.firstPage + page)) states[page] = SKIP;
      }
    }
    bridgeGaps(states, Math.floor(this.setup.bridgeBytes / this.#memoryOf(chunk).block.pageSize));
    const written = this.#act(chunk, states);
    this.digester?.fromMemory(chunk, selected);
    return written;
  }

  /** The end of a pass: buffered pages that are to leave the page cache have left it. */
  finish(): void {
    this.#behind.finish();
  }

  /** Behind the last pass: the space of slots without a page is given back. */
  trim(): void {
    const { fd, blocks } = this.setup;
    for (const _ of releasingUnusedSlots(fd, blocks)) if (this.state.stopped) return;
  }

  /** Only looks: sets the bits of pages that hold data in `found`. */
  scan(chunk: Chunk, request: ScanRequest): void {
    const selected = request.selected?.[chunk.blockIndex];
    const found = request.found[chunk.blockIndex];
    if (found === undefined) return;
    const states = this.#states.subarray(0, chunk.endPage - chunk.firstPage);
    this.contents.begin(chunk, this.#memoryOf(chunk));
    this.#statesByLooking(chunk, states, selected);
    const bits = new Uint8Array(found);
    for (const { value, start, end } of runs(states)) {
      if (value === DATA) setBits(bits, chunk.firstPage + start, chunk.firstPage + end);
      else clearBits(bits, chunk.firstPage + start, chunk.firstPage + end);
    }
  }

  #statesFromScan(chunk: Chunk, states: Uint8Array, found: Uint8Array): void {
    for (let page = 0; page < states.length; page++) {
      states[page] = testBit(found, chunk.firstPage + page) ? DATA : HOLE;
    }
  }

  #statesOfEverything(chunk: Chunk, states: Uint8Array): void {
    const memory = this.#memoryOf(chunk);
    const { pageSize } = memory.block;
    states.fill(FILL);
    for (const { start, end } of memory.extents(chunk.start, chunk.end)) {
      states.fill(DATA, (start - chunk.start) / pageSize, (end - chunk.start) / pageSize);
    }
  }

  #statesByLooking(chunk: Chunk, states: Uint8Array, selected: Uint8Array | undefined): void {
    const { pageSize } = this.#memoryOf(chunk).block;
    states.fill(HOLE);
    const wanted = selected
      ? bitRuns(selected, chunk.firstPage, chunk.endPage, true)
      : [{ first: chunk.firstPage, end: chunk.endPage }];
    for (const { first, end } of wanted) {
      for (const { start, bytes } of this.contents.data(first * pageSize, end * pageSize)) {
        const words = wordsOf(bytes);
        let page = (start - chunk.start) / pageSize;
        for (let offset = 0; offset < bytes.length; offset += pageSize, page++)
          states[page] = isZeroPage(bytes, words, offset, pageSize) ? ZERO : DATA;
      }
    }
  }

  #act(chunk: Chunk, states: Uint8Array): number {
    const { block } = this.#memoryOf(chunk);
    const { pageSize, pagesOffset } = block;
    const bitmap = this.#bitmapOf(chunk);
    const { channel } = this.setup;
    let written = 0;
    for (const { value, start, end } of runs(states)) {
      if (value === SKIP) continue;
      const firstPage = chunk.firstPage + start;
      const endPage = chunk.firstPage + end;
      const length = (end - start) * pageSize;
      if (value === ZERO || value === HOLE) {
        this.#dropStale(bitmap, firstPage, endPage, pagesOffset, pageSize);
        this.state.count(channel, 'duplicatePages', end - start);
        continue;
      }
      const bytes =
        value === FILL
          ? this.#zeroBytes(length)
          : this.contents.bytes(firstPage * pageSize, endPage * pageSize);
      this.#store(bytes, block, firstPage * pageSize);
      setBits(bitmap, firstPage, endPage);
      this.state.count(channel, 'normalPages', end - start);
      written += length;
      this.state.count(channel, 'bytes', length);
    }
    return written;
  }

  /** @param start in bytes from the start of the block */
  #store(bytes: Buffer, block: ChannelBlock, start: number): void {
    const { fd, direct } = this.setup;
    const slot = block.pagesOffset + start;
    try {
      this.#allocator.prepare(block, start, bytes.length);
      if (this.queue) this.queue.write(fd, bytes, slot);
      else writeFully(fd, bytes, slot);
    } catch (error) {
      throw FileIoError.at(slot, error);
    }
    if (!direct) this.#behind.wrote(slot, bytes.length);
  }

  /** Pages that became zero: where an earlier pass wrote them the slot is given back, so no stale bytes stay. */
  #dropStale(bitmap: Uint8Array, first: number, end: number, pagesOffset: number, pageSize: number): void {
    for (let page = findBit(bitmap, first, end, true); page < end; ) {
      const next = findBit(bitmap, page, end, false);
      clearBits(bitmap, page, next);
      if (this.#canPunch) {
        const length = (next - page) * pageSize;
        this.#canPunch = punchHole(this.setup.fd, pagesOffset + page * pageSize, length);
      }
      this.state.count(this.setup.channel, 'punchedPages', next - page);
      page = findBit(bitmap, next, end, true);
    }
  }

  #zeroBytes(length: number): Buffer {
    this.#zeros ??= alignedBuffer(this.setup.chunkBytes);
    return this.#zeros.subarray(0, length);
  }

  #memoryOf(chunk: Chunk): BlockMemory {
    const memory = this.memories[chunk.blockIndex];
    if (memory === undefined) throw new RangeError(`no block ${chunk.blockIndex}`);
    return memory;
  }

  #bitmapOf(chunk: Chunk): Uint8Array {
    const bitmap = this.#bitmaps[chunk.blockIndex];
    if (bitmap === undefined) throw new RangeError(`no block ${chunk.blockIndex}`);
    return bitmap;
  }
}

/**
 * Makes short stretches of zero pages between data part of the data: one large write replaces many small ones. Never
 * more zero pages than data pages in one run, so the image at most doubles.
 */
function bridgeGaps(states: Uint8Array, longest: number): void {
  let spare = 0;
  for (const { value, start, end } of runs(states)) {
    const pages = end - start;
    if (value === DATA) {
      spare += pages;
    } else if (value === ZERO && pages <= Math.min(longest, spare) && states[end] === DATA) {
      states.fill(DATA, start, end);
      spare -= pages;
    } else {
      spare = 0;
    }
  }
}

/** Stretches of equal values. */
function* runs(values: Uint8Array): Generator<{ value: number; start: number; end: number }> {
  for (let start = 0; start < values.length; ) {
    const value = values[start] ?? SKIP;
    let end = start + 1;
    while (end < values.length && values[end] === value) end++;
    yield { value, start, end };
    start = end;
  }
}
