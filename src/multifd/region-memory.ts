import { alignedBuffer } from '../io/aligned-buffer.js';
import type { Extent } from '../io/data-extents.js';
import { punchHole } from '../io/file-space.js';
import { MemoryWindows } from '../io/memory-map.js';
import { readFully, writeFully } from '../io/positional-io.js';
import type { WorkerMemory, WorkerRegion } from './channel-protocol.js';
import { RegionData } from './region-data.js';

/** One aligned buffer that all regions of a channel copy through, made when first needed. */
export class CopyBuffer {
  #buffer: Buffer | undefined;

  constructor(readonly bytes: number) {}

  take(length: number): Buffer {
    this.#buffer ??= alignedBuffer(this.bytes);
    return this.#buffer.subarray(0, length);
  }
}

/**
 * The memory of a region, by ranges of one chunk at most: through its mapping without a copy, or through a buffer where it
 * cannot be mapped. Offsets count from the region's start.
 */
export class RegionMemory<Region extends WorkerMemory = WorkerRegion> {
  readonly #windows: MemoryWindows | undefined;
  readonly #data: RegionData;

  constructor(
    readonly region: Region,
    private readonly copies: CopyBuffer,
  ) {
    this.#windows = region.map && new MemoryWindows(region.map);
    this.#data = new RegionData(region, this.#windows);
  }

  /** The parts of a range that hold data, widened to whole pages. Nothing outside them needs to be looked at. */
  *extents(start: number, end: number): Generator<Extent> {
    const { pageSize } = this.region;
    let reached = start;
    for (const extent of this.#data.extents(start, end)) {
      const from = Math.max(reached, floorTo(extent.start, pageSize));
      const to = Math.min(end, floorTo(extent.end + pageSize - 1, pageSize));
      if (to > from) yield { start: from, end: to };
      reached = Math.max(reached, to);
    }
  }

  /** Said of a range that holds data before much of it is read. */
  prepare(start: number, length: number): void {
    this.#windows?.populate(start, length);
  }

  /** The bytes of a range that holds data. A copy is good until the next call. */
  read(start: number, length: number): Buffer {
    if (this.#windows !== undefined) return this.#windows.view(start, length);
    const buffer = this.copies.take(length);
    const read = readFully(this.region.fd, buffer, this.region.fdOffset + start);
    buffer.fill(0, read);
    return buffer;
  }

  /** Gives `fill` a buffer for a range and puts what it wrote there into memory. */
  write(start: number, length: number, fill: (target: Buffer) => void): void {
    if (this.#windows !== undefined) {
      fill(this.#windows.view(start, length));
      return;
    }
    const buffer = this.copies.take(length);
    fill(buffer);
    writeFully(this.region.fd, buffer, this.region.fdOffset + start);
  }

  /** Called when a range is done with: it stops counting as resident memory of this process. */
  release(start: number, end: number): void {
    this.#windows?.release(start, end - start);
  }

  /** Makes a range read as zeros: holes stay holes, data becomes a hole where the file system can do that. */
  clear(start: number, end: number): void {
    for (const extent of this.extents(start, end)) {
      const length = extent.end - extent.start;
      if (punchHole(this.region.fd, this.region.fdOffset + extent.start, length)) continue;
      this.write(extent.start, length, (target) => target.fill(0));
    }
  }
}

function floorTo(value: number, unit: number): number {
  return value - (value % unit);
}
