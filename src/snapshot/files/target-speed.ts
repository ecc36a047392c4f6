/**
 * How fast the disk under a file takes what a save will write, tried on the part file itself before the VM is touched.
 *
 * There are disks and file systems on which O_DIRECT works and is very slow: 3.6 MB/s were seen where the page cache took hundreds.
 * And how many writes at once a disk wants differs from disk to disk.
 */
import { constants, write } from 'node:fs';
import { promisify } from 'node:util';
import { O_DIRECT } from '../../io/file/direct-io-support.js';
import { allocateRange, truncateFile } from '../../io/file/file-space.js';
import { syncFileData } from '../../io/file/file-sync.js';
import { releaseFiles, reopenFile } from '../../io/file/open-file.js';
import { writeFully } from '../../io/file/positional-io.js';
import { alignedBuffer } from '../../io/memory/aligned-buffer.js';
import { hasErrno } from '../../io/system-error.js';
import { formatSize } from '../../size.js';

const MIB = 2 ** 20;
/** Direct writes that reach this rate, in bytes a second, are not slow on any disk. */
const FAST_ENOUGH = 64 * MIB;
/** How much faster the page cache must be, the sync included, to be preferred. */
const CLEARLY_FASTER = 3;
const SMALL_WRITE = MIB;
const TRIES = 3;
const BUFFERED_BYTES = 8 * MIB;

/**
 * Why direct writes to an open, empty file are too slow to be used; undefined where they are not. Takes a few milliseconds unless they
 * are. The file is empty again afterwards.
 *
 * @param fd buffered, open for writing
 * @throws the system error of a write that fails
 */
export async function whyDirectIsSlow(fd: number): Promise<string | undefined> {
  const buffer = alignedBuffer(BUFFERED_BYTES).fill(0x5a);
  try {
    const direct = directRate(fd, buffer.subarray(0, SMALL_WRITE));
    if (direct >= FAST_ENOUGH) return undefined;
    const startedAt = performance.now();
    writeFully(fd, buffer, TRIES * SMALL_WRITE);
    await syncFileData(fd);
    const buffered = rateOf(BUFFERED_BYTES, performance.now() - startedAt);
    if (buffered < direct * CLEARLY_FASTER) return undefined;
    return `direct I/O writes ${formatSize(direct)}/s here, the page cache ${formatSize(buffered)}/s`;
  } catch (error) {
    // What is needed is checked, and told, before pages are written.
    if (hasErrno(error, 'ENOSPC', 'EDQUOT')) return undefined;
    throw error;
  } finally {
    truncateFile(fd, 0);
  }
}

/** The best of a few writes: one may have met somebody else's. */
function directRate(fd: number, bytes: Buffer): number {
  const direct = reopenFile(fd, constants.O_WRONLY | O_DIRECT);
  try {
    let best = 0;
    for (let at = 0; at < TRIES * bytes.length; at += bytes.length) {
      const startedAt = performance.now();
      writeFully(direct, bytes, at);
      best = Math.max(best, rateOf(bytes.length, performance.now() - startedAt));
      if (best >= FAST_ENOUGH) break;
    }
    return best;
  } finally {
    releaseFiles([direct]);
  }
}

/** What the disk wants. */
export interface DiskTrial {
  writesAtOnce: number;
  /** Bytes of one. */
  ioSize: number;
  /** Bytes a second that it then took. */
  rate: number;
  /** Half a sentence for the result. */
  reason: string;
}

/** Node gives writes to at most four threads. */
const DEPTHS = [1, 2, 4] as const;
const IO_SIZES = [4 * MIB, MIB] as const;
const TRIAL_BYTES = 32 * MIB;
/** A larger number or a smaller size must be worth it. */
const WORTH_IT = 1.08;

const writeAsync = promisify(write);

/**
 * Tries how many writes at once the disk wants, and of which size, with 128 MiB in all. The file is empty again afterwards.
 *
 * @throws the system error of a write that fails
 */
export async function tryDisk(fd: number, direct: boolean, signal: AbortSignal): Promise<DiskTrial> {
  const target = direct ? reopenFile(fd, constants.O_WRONLY | O_DIRECT) : fd;
  const buffer = alignedBuffer(IO_SIZES[0]).fill(0x5a);
  let end = 0;
  const trial = async (depth: number, size: number): Promise<number> => {
    signal.throwIfAborted();
    allocateRange(fd, end, TRIAL_BYTES);
    const startedAt = performance.now();
    await writeTrial(target, buffer.subarray(0, size), end, depth);
    if (!direct) await syncFileData(fd);
    end += TRIAL_BYTES;
    return rateOf(TRIAL_BYTES, performance.now() - startedAt);
  };
  try {
    let best = { depth: 1, ioSize: IO_SIZES[0] as number, rate: 0 };
    for (const depth of DEPTHS) {
      const rate = await trial(depth, IO_SIZES[0]);
      if (rate > best.rate * WORTH_IT) best = { ...best, depth, rate };
    }
    for (const ioSize of IO_SIZES.slice(1)) {
      const rate = await trial(best.depth, ioSize);
      if (rate > best.rate * WORTH_IT) best = { ...best, ioSize, rate };
    }
    const { depth, ioSize, rate } = best;
    return {
      writesAtOnce: depth,
      ioSize,
      rate,
      reason: `the disk took ${formatSize(rate)}/s with ${depth} ${depth === 1 ? 'write' : 'writes'} of ${formatSize(ioSize)} at once`,
    };
  } finally {
    if (direct) releaseFiles([target]);
    truncateFile(fd, 0);
  }
}

async function writeTrial(fd: number, bytes: Buffer, start: number, depth: number): Promise<void> {
  let next = start;
  const lane = async () => {
    while (next < start + TRIAL_BYTES) {
      const at = next;
      next += bytes.length;
      await writeAsync(fd, bytes, 0, bytes.length, at);
    }
  };
  // Every write must have ended before the descriptor is closed.
  const ends = await Promise.allSettled(Array.from({ length: depth }, lane));
  for (const ended of ends) if (ended.status === 'rejected') throw ended.reason;
}

function rateOf(bytes: number, ms: number): number {
  return Math.round((bytes / Math.max(ms, 0.01)) * 1000);
}
