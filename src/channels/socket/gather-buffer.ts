/**
 * Pages in a page-aligned buffer on their way to a file, so that O_DIRECT works and writes are large:
 *
 * ```
 * buffer   |page|page|page|page|page|page|page|      |
 * runs     |<- slots at x ->|<- at y ->|<- at z ->|
 * ```
 *
 * Runs that are neighbours in the file go out in one call, wherever they lie in the buffer.
 */
import { alignedBuffer } from '../../io/memory/aligned-buffer.js';

/** A run of pages in the buffer and its place in the file. */
interface GatheredRun {
  slot: number;
  at: number;
  length: number;
}

/** What one `pwritev` takes to the file. */
export interface GatheredWrite {
  position: number;
  length: number;
  parts: Uint8Array[];
}

/** The kernel takes no more parts in one call (IOV_MAX is 1024). */
const MAX_PARTS = 1000;

export class GatherBuffer {
  readonly #bytes: Buffer;
  #runs: GatheredRun[] = [];
  #filled = 0;

  constructor(size: number) {
    this.#bytes = alignedBuffer(size);
  }

  get empty(): boolean {
    return this.#filled === 0;
  }

  /** Bytes that there is room for. */
  get free(): number {
    return this.#bytes.length - this.#filled;
  }

  /** Memory for the next `length` bytes; undefined where there is not so much left. */
  room(length: number): Buffer | undefined {
    if (length > this.free) return undefined;
    return this.#bytes.subarray(this.#filled, this.#filled + length);
  }

  /** Tells that the next `length` bytes of the room now belong at `slot` of the file. Returns them. */
  append(slot: number, length: number): Buffer {
    const last = this.#runs.at(-1);
    if (last !== undefined && last.slot + last.length === slot) last.length += length;
    else this.#runs.push({ slot, at: this.#filled, length });
    const at = this.#filled;
    this.#filled += length;
    return this.#bytes.subarray(at, this.#filled);
  }

  /** The newest bytes for that slot, up to the end of their run, to be read or changed. */
  find(slot: number): Buffer | undefined {
    const run = this.#runs.findLast(({ slot: start, length }) => start <= slot && slot < start + length);
    return run && this.#bytes.subarray(run.at + slot - run.slot, run.at + run.length);
  }

  /** Whether any of these bytes of the file are here. */
  touches(slot: number, length: number): boolean {
    return this.#runs.some((run) => run.slot < slot + length && slot < run.slot + run.length);
  }

  /** Whether any page is in both. */
  overlaps(other: GatherBuffer): boolean {
    const ours = sorted(this.#runs);
    const theirs = sorted(other.#runs);
    for (let i = 0, j = 0; i < ours.length && j < theirs.length; ) {
      const one = ours[i] as GatheredRun;
      const another = theirs[j] as GatheredRun;
      if (one.slot + one.length <= another.slot) i++;
      else if (another.slot + another.length <= one.slot) j++;
      else return true;
    }
    return false;
  }

  /**
   * The writes that bring everything to the file, in any order. Where a page was gathered twice, there are several
   * rounds of them, one after the other.
   */
  writes(): GatheredWrite[][] {
    const runs = sorted(this.#runs);
    if (!haveOverlap(runs)) return [this.#joined(runs)];
    return this.#runs.map((run) => this.#joined([run]));
  }

  clear(): void {
    this.#runs = [];
    this.#filled = 0;
  }

  #joined(runs: readonly GatheredRun[]): GatheredWrite[] {
    const writes: GatheredWrite[] = [];
    for (const { slot, at, length } of runs) {
      const part = this.#bytes.subarray(at, at + length);
      const last = writes.at(-1);
      if (last && last.position + last.length === slot && last.parts.length < MAX_PARTS) {
        last.parts.push(part);
        last.length += length;
      } else writes.push({ position: slot, length, parts: [part] });
    }
    return writes;
  }
}

function sorted(runs: readonly GatheredRun[]): GatheredRun[] {
  return [...runs].sort((one, other) => one.slot - other.slot);
}

function haveOverlap(runs: readonly GatheredRun[]): boolean {
  return runs.some((run, index) => {
    const next = runs[index + 1];
    return next !== undefined && next.slot < run.slot + run.length;
  });
}
