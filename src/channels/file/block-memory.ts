import { fstatSync, readlinkSync } from 'node:fs';
import { MapramError } from '../../errors.js';
import type { Extent } from '../../io/file/data-extents.js';
import { punchHole } from '../../io/file/file-space.js';
import { descriptorPath } from '../../io/file/open-file.js';
import { readFully, writeFully } from '../../io/file/positional-io.js';
import { alignedBuffer } from '../../io/memory/aligned-buffer.js';
import { isSealedAgainstShrinking } from '../../io/memory/memfd.js';
import { MemoryWindows } from '../../io/memory/memory-map.js';
import type { ChannelBlock, MemoryBlock } from '../channel-block.js';
import { BlockExtents } from './block-extents.js';

/** One aligned buffer that all blocks of a channel copy through, made when first needed. */
export class CopyBuffer {
  #buffer: Buffer | undefined;

  constructor(readonly bytes: number) {}

  take(length: number): Buffer {
    this.#buffer ??= alignedBuffer(this.bytes);
    return this.#buffer.subarray(0, length);
  }
}

/**
 * The memory of a RAM block, by ranges of one chunk at most. The kernel moves pages through its mapping without a copy, or through a
 * buffer where it cannot be mapped; for who else may touch the mapping see chunk-memory.ts. Offsets count from the block's
 * start.
 */
export class BlockMemory<Block extends MemoryBlock = ChannelBlock & MemoryBlock> {
  readonly #windows: MemoryWindows | undefined;
  readonly #data: BlockExtents;
  /** It is mapped, and no one can cut its file short. */
  readonly cannotShrink: boolean;

  constructor(
    readonly block: Block,
    private readonly copies: CopyBuffer,
  ) {
    this.#windows = block.memory.map && new MemoryWindows(block.memory.map);
    this.#data = new BlockExtents(block, this.#windows);
    this.cannotShrink = this.#windows !== undefined && isSealedAgainstShrinking(block.memory.fd);
  }

  /** The parts of a range that hold data, widened to whole pages. Nothing outside them needs to be looked at. */
  *extents(start: number, end: number): Generator<Extent> {
    const { pageSize } = this.block;
    let reached = start;
    for (const extent of this.#data.extents(start, end)) {
      const from = Math.max(reached, floorTo(extent.start, pageSize));
      const to = Math.min(end, floorTo(extent.end + pageSize - 1, pageSize));
      if (to > from) yield { start: from, end: to };
      reached = Math.max(reached, to);
    }
  }

  /** Copies all of a range to where anybody may look at it. */
  copy(start: number, target: Buffer): void {
    const { fd, offset } = this.block.memory;
    if (readFully(fd, target, offset + start) < target.length) assertWhole(this.block);
  }

  /** Said of a range that holds data before much of its mapping is touched. */
  populate(start: number, length: number): void {
    this.#windows?.populate(start, length);
  }

  /** A range where it is mapped. Anybody but the kernel may touch it only where the memory cannot shrink. */
  view(start: number, length: number): Buffer {
    if (this.#windows === undefined) throw new RangeError('the memory is not mapped');
    return this.#windows.view(start, length);
  }

  /** Gives `fill` a buffer for a range, for the kernel to read a file into, and sees that memory has what came. */
  write(start: number, length: number, fill: (target: Buffer) => void): void {
    if (this.#windows !== undefined) {
      fill(this.#windows.view(start, length));
      return;
    }
    const buffer = this.copies.take(length);
    fill(buffer);
    this.#put(start, buffer);
  }

  /** Called when a range is done with: it stops counting as resident memory of this process. */
  release(start: number, end: number): void {
    this.#windows?.release(start, end - start);
  }

  /** Makes a range read as zeros: holes stay holes, data becomes a hole where the file system can do that. */
  clear(start: number, end: number): void {
    const { fd, offset } = this.block.memory;
    for (const extent of this.extents(start, end)) {
      const length = extent.end - extent.start;
      if (punchHole(fd, offset + extent.start, length)) continue;
      this.#put(extent.start, this.copies.take(length).fill(0));
    }
  }

  /** Writing beyond the end would make the file long again, and hide that it was cut. */
  #put(start: number, bytes: Buffer): void {
    const { fd, offset } = this.block.memory;
    assertWhole(this.block);
    writeFully(fd, bytes, offset + start);
  }
}

/**
 * @throws MapramError `VM` where the file behind a memory has become shorter than the memory: its owner has cut it, and what is
 * missing reads like pages that are zero
 */
export function assertWhole({ usedLength, memory: { fd, offset } }: MemoryBlock): void {
  const { size } = fstatSync(fd);
  if (size >= offset + usedLength) return;
  const file = readlinkSync(descriptorPath(fd));
  throw new MapramError(
    'VM',
    `accessing the memory of the VM in ${file}: the file was cut short to ${size} bytes, ${offset + usedLength} are in use; check who else writes to it`,
    { path: file },
  );
}

function floorTo(value: number, unit: number): number {
  return value - (value % unit);
}
