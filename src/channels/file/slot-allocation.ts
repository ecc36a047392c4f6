/**
 * Space for slots before pages come. ext4 and XFS let direct writes run side by side only where they neither allocate
 * blocks nor move the end of the file; all others wait for each other. So the file gets its size first, then its blocks.
 *
 * ```
 * slots      |      piece      |      piece      |      piece      |
 * reserved   |        1        |        0        |        1        |   a byte each, shared by all that place pages
 * ```
 *
 * Where it is known what memory holds data, its pieces are reserved before the first write: fallocate waits for all direct
 * writes under way. Any other piece is reserved when its first page comes. Where no page came by the end, the space is given
 * back, so zero pages are holes as they should be.
 */
import { seekData } from '../../io/file/data-extents.js';
import { allocateRange, fileSize, punchHole, truncateFile } from '../../io/file/file-space.js';
import type { MemoryFile } from '../../io/memory/memory-map.js';
import { hasErrno } from '../../io/system-error.js';
import type { SlotBlock } from '../channel-block.js';
import { bitRuns } from '../page-bits.js';

/** Reserved at once; a multiple of every page size. */
const PIECE_BYTES = 32 << 20;
/** Shorter stretches of unused slots are not worth a call each. */
const SMALLEST_RELEASE = 64 << 10;

/** Of a block of which nothing is reserved. */
export function noPieces(usedLength: number): SharedArrayBuffer {
  return new SharedArrayBuffer(Math.ceil(usedLength / PIECE_BYTES));
}

/** Reserved by one call at most: the thread that calls has other things to do, too. */
const LARGEST_RESERVE = 8 * 2 ** 30;

/** Lets the file reach to the end of all slots. A target that has no size, such as a pipe or a device, stays as it is. */
export function coverSlots(
  fd: number,
  blocks: readonly Pick<SlotBlock, 'pagesOffset' | 'usedLength'>[],
): void {
  const end = Math.max(0, ...blocks.map(({ pagesOffset, usedLength }) => pagesOffset + usedLength));
  try {
    if (fileSize(fd) < end) truncateFile(fd, end);
  } catch (error) {
    if (!hasErrno(error, 'EINVAL', 'EPERM')) throw error;
  }
}

/**
 * Reserves space for all slots whose memory is not a hole. Where there is not enough for that, none is reserved: there may be
 * for the pages that are not zero.
 */
export async function reserveSlots(
  fd: number,
  memory: MemoryFile,
  { usedLength, pagesOffset, allocated }: SlotBlock,
): Promise<void> {
  if (allocated === undefined) return;
  const pieces = new Uint8Array(allocated);
  for (let piece = nextPieceWithData(memory, 0, usedLength); piece < pieces.length; ) {
    let end = piece + 1;
    while (
      end < pieces.length &&
      (end - piece) * PIECE_BYTES < LARGEST_RESERVE &&
      nextPieceWithData(memory, end, usedLength) === end
    )
      end++;
    const start = piece * PIECE_BYTES;
    try {
      if (!allocateRange(fd, pagesOffset + start, Math.min(end * PIECE_BYTES, usedLength) - start)) return;
    } catch (error) {
      if (!hasErrno(error, 'ENOSPC', 'EDQUOT')) throw error;
      punchHole(fd, pagesOffset, usedLength);
      pieces.fill(0);
      return;
    }
    pieces.fill(1, piece, end);
    piece = nextPieceWithData(memory, end, usedLength);
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
}

/** The first piece from `piece` on with data in its memory; past the last where there is none. */
function nextPieceWithData({ fd, offset }: MemoryFile, piece: number, usedLength: number): number {
  const start = piece * PIECE_BYTES;
  const past = Math.ceil(usedLength / PIECE_BYTES);
  if (start >= usedLength) return past;
  const found = seekData(fd, offset + start);
  if (found === 'unknown') return piece;
  return found === 'none' ? past : Math.min(past, Math.floor((found - offset) / PIECE_BYTES));
}

/** Reserves space for the slots of a range that has none yet. */
export class SlotAllocator {
  #possible = true;

  constructor(private readonly fd: number) {}

  /** @param start in bytes from the start of the block */
  prepare(
    { usedLength, pagesOffset, allocated }: Pick<SlotBlock, 'usedLength' | 'pagesOffset' | 'allocated'>,
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

/** Gives back the reserved space of slots that have no page. Nothing may be placing pages of these blocks any more. */
export async function releaseUnusedSlots(fd: number, blocks: readonly SlotBlock[]): Promise<void> {
  // Whoever else has something to do in this thread comes in between.
  for (const _ of releasingUnusedSlots(fd, blocks))
    await new Promise<void>((resolve) => setImmediate(resolve));
}

/** The same step by step. */
export function* releasingUnusedSlots(fd: number, blocks: readonly SlotBlock[]): Generator<void> {
  for (const { usedLength, pageSize, pagesOffset, bitmap, allocated } of blocks) {
    for (const [piece, isReserved] of new Uint8Array(allocated ?? new SharedArrayBuffer(0)).entries()) {
      if (isReserved === 0) continue;
      const start = piece * PIECE_BYTES;
      const end = Math.min(start + PIECE_BYTES, usedLength);
      for (const run of bitRuns(new Uint8Array(bitmap), start / pageSize, end / pageSize, false)) {
        const length = (run.end - run.first) * pageSize;
        if (length >= SMALLEST_RELEASE) punchHole(fd, pagesOffset + run.first * pageSize, length);
      }
      yield;
    }
  }
}
