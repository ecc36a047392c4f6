/**
 * Reads ahead what a resumed guest will want first. A cold file is otherwise read page by page, as the guest touches it.
 *
 * Which pages those are is recorded beside the file, in FILE.prefetch, after an earlier resume:
 *
 *     {"format": 1, "size": 1140850688, "mtimeMs": 1795450809000, "ranges": [[1048576, 65536], …]}
 *
 * size and mtime are those of the file, so that a record of an older one is not used; ranges are offset and length in bytes.
 */
import { constants, renameSync, statSync, unlinkSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import * as v from 'valibot';
import { errorReason, MapramError } from '../../errors.js';
import { copiedRanges } from '../../guest/qemu/copied-memory.js';
import { openFile, releaseFiles } from '../../io/file/open-file.js';
import { readRegularFile } from '../../io/file/regular-file.js';
import { PageOrigin, readPageMap } from '../../io/process/page-map.js';
import { type MappedFile, mappedFile } from '../../io/process/process-maps.js';
import type { MappedRamImage } from '../../mapped-ram/image.js';

/** `all`: every page that is not zero; `recorded`: those of the record, none where there is none. */
export type PrefetchMode = 'all' | 'recorded' | 'none';

export interface FileRange {
  offset: number;
  length: number;
}

const PAGE = 4096;
/** Gaps up to this are read along: one large read costs less than two small ones. */
const MERGED_GAP = 128 * 1024;
const READ_BYTES = 4 * 2 ** 20;
/** Reads in flight: enough to keep a disk busy. */
const READS_AT_ONCE = 2;
/** A record that claims more is not one of ours. */
const MAX_RECORD_BYTES = 64 * 2 ** 20;

const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const RecordSchema = v.object({
  format: v.literal(1),
  size: count,
  mtimeMs: v.number(),
  ranges: v.array(v.tuple([count, count])),
});

/** Where what a resume has recorded lies. */
export function prefetchRecordPath(file: string): string {
  return `${file}.prefetch`;
}

/** What `mode` says to read, in ascending order. */
export function prefetchRanges(image: MappedRamImage, file: string, mode: PrefetchMode): FileRange[] {
  switch (mode) {
    case 'none':
      return [];
    case 'recorded':
      return readRecord(file) ?? [];
    case 'all':
      return merged(
        image.blocks.flatMap((block) =>
          [...image.runs(block)].map(({ first, count: pages }) => ({
            offset: block.pagesOffset + first * block.pageSize,
            length: pages * block.pageSize,
          })),
        ),
      );
  }
}

/**
 * Brings ranges of a file into the page cache. Never throws but for `signal`: a page that cannot be read now is read, or
 * fails, when the guest wants it.
 *
 * @returns how many bytes were read
 */
export async function prefetch(
  file: string,
  ranges: readonly FileRange[],
  signal?: AbortSignal,
): Promise<number> {
  if (ranges.length === 0) return 0;
  // O_NONBLOCK: what is at the path by now may be a FIFO, which has nothing to read ahead.
  const handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK);
  let total = 0;
  try {
    const pieces = split(ranges);
    const reader = async () => {
      const scratch = Buffer.allocUnsafe(READ_BYTES);
      for (const { offset, length } of pieces) {
        signal?.throwIfAborted();
        const { bytesRead } = await handle.read(scratch, 0, length, offset).catch(() => ({ bytesRead: 0 }));
        total += bytesRead;
      }
    };
    await Promise.all(Array.from({ length: READS_AT_ONCE }, reader));
    return total;
  } finally {
    await handle.close();
  }
}

/**
 * Records which pages of `file` process `pid` has touched so far, in memory mapped from it.
 *
 * @param file absolute path without symbolic links
 * @returns the bytes that a prefetch will read
 * @throws MapramError `IO`
 */
export function recordPrefetch(file: string, pid: number): number {
  const touched: FileRange[] = [];
  for (const { start, offset, length } of copiedRanges(pid, mappedFileAt(file))) {
    const origins = readPageMap(pid, start, length);
    for (let page = 0; page < origins.length; page++) {
      if (origins[page] !== PageOrigin.NONE) touched.push({ offset: offset + page * PAGE, length: PAGE });
    }
  }
  const ranges = merged(touched.sort((a, b) => a.offset - b.offset));
  const { size, mtimeMs } = statSync(file);
  const record = { format: 1, size, mtimeMs, ranges: ranges.map(({ offset, length }) => [offset, length]) };
  writeRecord(prefetchRecordPath(file), JSON.stringify(record));
  return ranges.reduce((total, { length }) => total + length, 0);
}

function mappedFileAt(file: string): MappedFile {
  const fd = openFile(file, constants.O_RDONLY);
  try {
    return mappedFile(fd);
  } finally {
    releaseFiles([fd]);
  }
}

/** The record beside `file`; undefined where there is none, or one that does not belong to it. */
function readRecord(file: string): FileRange[] | undefined {
  const path = prefetchRecordPath(file);
  try {
    const text = readRegularFile(path, MAX_RECORD_BYTES)?.toString();
    if (text === undefined) return undefined;
    const record = v.safeParse(RecordSchema, JSON.parse(text));
    const { size, mtimeMs } = statSync(file);
    if (!record.success || record.output.size !== size || record.output.mtimeMs !== mtimeMs) return undefined;
    return record.output.ranges
      .map(([offset, length]) => ({ offset, length }))
      .filter(({ offset, length }) => offset + length <= size);
  } catch {
    return undefined;
  }
}

/** It appears whole: a resume that reads it meanwhile finds the old one. */
function writeRecord(path: string, text: string): void {
  const draft = `${path}.${process.pid}`;
  try {
    writeFileSync(draft, text, { mode: 0o600, flag: 'wx' });
    renameSync(draft, path);
  } catch (error) {
    try {
      unlinkSync(draft);
    } catch {
      // It was not created.
    }
    throw new MapramError('IO', `recording what to read ahead in ${path}: ${errorReason(error)}`, {
      path,
      cause: error,
    });
  }
}

/** Neighbouring ranges, and those with a small gap between them, become one. `ranges` ascend. */
function merged(ranges: readonly FileRange[]): FileRange[] {
  const result: FileRange[] = [];
  for (const { offset, length } of ranges) {
    const last = result.at(-1);
    if (last !== undefined && offset - (last.offset + last.length) <= MERGED_GAP) {
      last.length = offset + length - last.offset;
    } else result.push({ offset, length });
  }
  return result;
}

/** In pieces of one read each; several readers take from the same generator. */
function* split(ranges: readonly FileRange[]): Generator<FileRange, void, undefined> {
  for (const { offset, length } of ranges) {
    for (let done = 0; done < length; done += READ_BYTES) {
      yield { offset: offset + done, length: Math.min(READ_BYTES, length - done) };
    }
  }
}
