import { randomFillSync, randomUUID } from 'node:crypto';
import { constants, read, realpathSync, statSync, unlinkSync, write } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { defined } from '../defined.js';
import { errorReason, MapramError } from '../errors.js';
import { type DirectIoProbe, probeDirectIo } from '../io/file/direct-io-probe.js';
import { O_DIRECT } from '../io/file/direct-io-support.js';
import { allocateRange, freeSpace } from '../io/file/file-space.js';
import { syncFileData } from '../io/file/file-sync.js';
import { closeFile, openFile, reopenFile } from '../io/file/open-file.js';
import { dropCache } from '../io/file/page-cache.js';
import { alignedBuffer } from '../io/memory/aligned-buffer.js';
import { hasErrno } from '../io/system-error.js';
import { formatSize } from '../size.js';
import type { Bytes, BytesPerSecond } from '../units.js';
import type { Finding } from './finding.js';
import { type Mount, mountOf } from './mounts.js';

/** How fast a trial file was written and read. */
export interface SpeedTrial {
  /** Bytes of the trial file. */
  readonly bytes: Bytes;
  /** Whether it went through O_DIRECT. */
  readonly direct: boolean;
  /** Bytes a second, the final sync included. */
  readonly writeRate: BytesPerSecond;
  /** Bytes a second; with buffered I/O after asking the kernel to forget the file. */
  readonly readRate: BytesPerSecond;
}

/** What a directory offers for the images of VMs. */
export interface DirectoryCheck {
  readonly path: string;
  readonly mount?: Mount;
  readonly freeBytes: Bytes;
  readonly directIo: DirectIoProbe;
  /** Whether space can be reserved before it is written, which makes direct writes faster. */
  readonly preallocation: boolean;
  /** Absent when there was too little room for one. */
  readonly speed?: SpeedTrial;
}

const CHUNK = 4 * 2 ** 20;
/** Transfers under way at once; libuv has four threads for them. */
const DEPTH = 4;
const TRIAL = { min: 4 * CHUNK, max: 256 * 2 ** 20, shareOfFree: 0.05, maxMs: 1500 };
/** Pages of every guest that QEMU can save to a mapped-ram file are at least this large. */
const SMALLEST_PAGE = 4096;

const writeAsync = promisify(write);
const readAsync = promisify(read);

/**
 * Looks at a directory and tries it with a file of at most 256 MiB, that has no name and is gone afterwards, whatever
 * happens.
 *
 * @throws MapramError `IO` when it is no directory that can be written to
 */
export async function checkDirectory(directory: string, signal: AbortSignal): Promise<DirectoryCheck> {
  let realPath: string;
  let directIo: DirectIoProbe;
  try {
    realPath = realpathSync(directory);
    if (!statSync(realPath).isDirectory()) {
      throw new MapramError(
        'IO',
        `examining ${directory}: it is not a directory; name the one that the files will go to`,
        {
          path: directory,
        },
      );
    }
    directIo = probeDirectIo(realPath);
  } catch (error) {
    if (error instanceof MapramError) throw error;
    throw new MapramError('IO', `examining ${directory}: ${errorReason(error)}`, {
      path: directory,
      cause: error,
    });
  }
  const freeBytes = freeSpace(realPath);
  const mount = mountOf(realPath);
  const fd = openNameless(realPath);
  try {
    const preallocation = reservesSpace(fd);
    const bytes = Math.floor(Math.min(TRIAL.max, freeBytes * TRIAL.shareOfFree) / CHUNK) * CHUNK;
    return {
      path: directory,
      ...defined({ mount }),
      freeBytes,
      directIo,
      preallocation,
      ...defined({
        speed: bytes < TRIAL.min ? undefined : await trySpeed(fd, bytes, directIo.supported, signal),
      }),
    };
  } catch (error) {
    signal.throwIfAborted();
    throw new MapramError('IO', `writing a trial file in ${directory}: ${errorReason(error)}`, {
      path: directory,
      cause: error,
    });
  } finally {
    closeFile(fd);
  }
}

function openNameless(directory: string): number {
  const name = path.join(directory, `.mapram-doctor-${randomUUID()}`);
  try {
    const fd = openFile(name, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW);
    unlinkSync(name);
    return fd;
  } catch (error) {
    throw new MapramError('IO', `creating a trial file in ${directory}: ${errorReason(error)}`, {
      path: directory,
      cause: error,
    });
  }
}

function reservesSpace(fd: number): boolean {
  try {
    return allocateRange(fd, 0, CHUNK);
  } catch (error) {
    if (hasErrno(error, 'ENOSPC', 'EDQUOT')) return false;
    throw error;
  }
}

async function trySpeed(
  fd: number,
  limit: number,
  direct: boolean,
  signal: AbortSignal,
): Promise<SpeedTrial> {
  const trial = direct ? reopenFile(fd, constants.O_RDWR | O_DIRECT) : fd;
  try {
    const buffers = Array.from({ length: DEPTH }, () => randomFillSync(alignedBuffer(CHUNK)));
    const started = performance.now();
    const bytes = await inChunks(limit, signal, buffers, (buffer, position) =>
      writeAsync(trial, buffer, 0, CHUNK, position),
    );
    await syncFileData(fd);
    const written = performance.now();
    dropCache(fd);
    const reading = performance.now();
    await inChunks(bytes, signal, buffers, (buffer, position) =>
      readAsync(trial, buffer, 0, CHUNK, position),
    );
    const rate = (from: number, to: number) => Math.round((bytes / Math.max(to - from, 0.1)) * 1000);
    return { bytes, direct, writeRate: rate(started, written), readRate: rate(reading, performance.now()) };
  } finally {
    if (direct) closeFile(trial);
  }
}

/** Moves chunk after chunk, as many at a time as there are buffers, until all are done or time is up. */
async function inChunks(
  limit: number,
  signal: AbortSignal,
  buffers: readonly Buffer[],
  transfer: (buffer: Buffer, position: number) => Promise<unknown>,
): Promise<number> {
  const deadline = performance.now() + TRIAL.maxMs;
  let next = 0;
  const work = async (buffer: Buffer) => {
    while (next < limit && performance.now() < deadline) {
      signal.throwIfAborted();
      next += CHUNK;
      await transfer(buffer, next - CHUNK);
    }
  };
  // Every transfer must have ended before the descriptor is closed.
  const ends = await Promise.allSettled(buffers.map(work));
  for (const end of ends) if (end.status === 'rejected') throw end.reason;
  return next;
}

/** What the user should know about it. */
export function directoryFindings(check: DirectoryCheck): Finding[] {
  const { path: subject, directIo, speed, mount, freeBytes } = check;
  const findings: Finding[] = [];
  const add = (level: Finding['level'], message: string) => findings.push({ level, subject, message });
  if (!directIo.supported) {
    add(
      'note',
      `no direct I/O here (${directIo.reason}): --direct-io auto saves through the page cache; use a directory on ext4 or xfs for direct I/O`,
    );
  } else if (directIo.offsetAlignment > SMALLEST_PAGE) {
    add(
      'note',
      `direct I/O here works in units of ${formatSize(directIo.offsetAlignment)}, but guest pages have ${formatSize(SMALLEST_PAGE)}: --direct-io auto saves through the page cache`,
    );
  } else if (mount !== undefined && ['tmpfs', 'ramfs'].includes(mount.type)) {
    add(
      'note',
      `this is memory (${mount.type}): direct I/O is accepted, but files here take RAM and do not outlive a restart`,
    );
  } else {
    add('good', 'supports direct I/O');
  }
  if (speed === undefined) {
    add('bad', `only ${formatSize(freeBytes)} free: too little for a speed trial, and for most VMs`);
  }
  return findings;
}
