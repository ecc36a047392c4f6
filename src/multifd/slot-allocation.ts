/**
 * Space for slots before pages come: ext4 and XFS let several direct writes into reserved space run side by side, into
 * holes only one after the other.
 *
 * ```
 * slots      |      piece      |      piece      |      piece      |
 * reserved   |        1        |        0        |        1        |   a byte each, shared by all that place pages
 * ```
 *
 * A piece is reserved when its first page comes. Where no page came by the end, the space is given back, so zero pages are
 * holes as they should be.
 */
import { allocateRange, punchHole } from '../io/file-space.js';
import { hasErrno } from '../io/system-error.js';
import { findBit } from './page-bits.js';

/** Reserved at once; a multiple of every page size. */
const PIECE_BYTES = 32 << 20;
/** Shorter stretches of unused slots are not worth a call each. */
const SMALLEST_RELEASE = 64 << 10;

export interface AllocatedBlock {
  usedLength: number;
  pageSize: number;
  /** Absolute offset of page 0 in the file. */
  pagesOffset: number;
  /** Present bits, LSB first. */
  bitmap: SharedArrayBuffer;
  /** What is reserved: made by `noPieces`. */
  allocated?: SharedArrayBuffer | undefined;
}

/** Of a block of which nothing is reserved. */
export function noPieces(usedLength: number): SharedArrayBuffer {
  return new SharedArrayBuffer(Math.ceil(usedLength / PIECE_BYTES));
}

/** Reserves space for the slots of a range that has none yet. */
export class SlotAllocator {
  #possible = true;

  constructor(private readonly fd: number) {}

  /** @param start in bytes from the start of the block */
  prepare(
    { usedLength, pagesOffset, allocated }: Pick<AllocatedBlock, 'usedLength' | 'pagesOffset' | 'allocated'>,
    start: number,
    length: number,
  ): void {
    if (!this.#possible || allocated === undefined) return;
    const pieces = new Uint8Array(allocated);
    const last = Math.floor((start + length - 1) / PIECE_BYTES);
    for (let piece = Math.floor(start / PIECE_BYTES); piece <= last; piece++) {
      if (Atomics.exchange(pieces, piece, 1) !== 0) continue;
      const first = piece * PIECE_BYTES;
      this.#allocate(pagesOffset + first, Math.min(PIECE_BYTES, usedLength - first));
    }
  }

  #allocate(position: number, length: number): void {
    try {
      this.#possible = allocateRange(this.fd, position, length);
    } catch (error) {
      // The pages alone may still fit.
      if (!hasErrno(error, 'ENOSPC', 'EDQUOT')) throw error;
      this.#possible = false;
    }
  }
}

/** Gives back the reserved space of slots that have no page. Nothing may be placing pages any more. */
export async function releaseUnusedSlots(fd: number, blocks: readonly AllocatedBlock[]): Promise<void> {
  for (const block of blocks) {
    const { usedLength, pageSize, pagesOffset, allocated } = block;
    for (const [piece, isReserved] of new Uint8Array(allocated ?? new SharedArrayBuffer(0)).entries()) {
      if (isReserved === 0) continue;
      const start = piece * PIECE_BYTES;
      const end = Math.min(start + PIECE_BYTES, usedLength);
      for (const run of clearRuns(new Uint8Array(block.bitmap), start / pageSize, end / pageSize)) {
        const length = (run.end - run.first) * pageSize;
        if (length >= SMALLEST_RELEASE) punchHole(fd, pagesOffset + run.first * pageSize, length);
      }
      // Whoever else has something to do in this thread comes in between.
      await new Promise<void>((resolve) => setImmediate(resolve));
    }
  }
}

function* clearRuns(bits: Uint8Array, from: number, to: number): Generator<{ first: number; end: number }> {
  let first = findBit(bits, from, to, false);
  while (first < to) {
    const end = findBit(bits, first, to, true);
    yield { first, end };
    first = findBit(bits, end, to, false);
  }
}
