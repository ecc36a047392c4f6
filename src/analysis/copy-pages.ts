import { truncateFile } from '../io/file/file-space.js';
import { writeFully } from '../io/file/positional-io.js';
import type { OperationOptions } from '../progress.js';
import type { SavedBlock, SavedVm } from './saved-vm.js';

export interface CopyOptions extends OperationOptions {
  /** Looks at what is copied: pages of one block, in ascending order, zero pages left out. */
  readonly onPage?: ((page: Buffer) => void) | undefined;
}

/** A part of a block and where it goes. */
export interface CopyRange {
  readonly block: SavedBlock;
  /** Bytes of the block, whole pages. */
  readonly offset: number;
  readonly length: number;
  /** In the target file. */
  readonly position: number;
}

export interface CopyResult {
  /** Bytes of pages that are not zero: all that was written. */
  readonly writtenBytes: number;
}

/** Read and written at once. */
const WINDOW_BYTES = 2 ** 20;

/**
 * Writes a block as one flat file: byte N of the file is byte N of the block. Zero pages stay holes.
 *
 * @param fd an empty file, open for writing
 */
export async function writeRaw(
  saved: SavedVm,
  block: SavedBlock,
  fd: number,
  options: CopyOptions = {},
): Promise<CopyResult> {
  truncateFile(fd, block.usedLength);
  return copyPages(saved, [{ block, offset: 0, length: block.usedLength, position: 0 }], fd, options);
}

/** Copies pages to where they belong in a file; zero pages are left out. */
export async function copyPages(
  saved: SavedVm,
  ranges: readonly CopyRange[],
  fd: number,
  { signal, onProgress, onPage }: CopyOptions = {},
): Promise<CopyResult> {
  const totalBytes = ranges.reduce((sum, range) => sum + contentBytes(saved, range), 0);
  const started = performance.now();
  let bytes = 0;
  let writtenBytes = 0;
  for (const { block, offset, length, position } of ranges) {
    const { pageSize } = block;
    const zeros = Buffer.alloc(pageSize);
    const [from, to] = [offset / pageSize, (offset + length) / pageSize];
    for (const run of saved.runs(block, WINDOW_BYTES / pageSize)) {
      const first = Math.max(from, run.first);
      const count = Math.min(to, run.first + run.count) - first;
      if (count <= 0) continue;
      signal?.throwIfAborted();
      const contents = await saved.readPages(block, first, count);
      const data = Buffer.from(contents.buffer, contents.byteOffset, contents.byteLength);
      const target = position + first * pageSize - offset;
      for (const [start, end] of nonZeroPages(data, zeros)) {
        writeFully(fd, data.subarray(start, end), target + start);
        writtenBytes += end - start;
        if (onPage) for (let at = start; at < end; at += pageSize) onPage(data.subarray(at, at + pageSize));
      }
      bytes += count * pageSize;
      const rate = Math.round((bytes / Math.max(1, performance.now() - started)) * 1000);
      onProgress?.({ phase: 'copying', bytes, totalBytes, pages: bytes / pageSize, rate });
    }
  }
  return { writtenBytes };
}

function contentBytes(saved: SavedVm, { block, offset, length }: CopyRange): number {
  const { pageSize } = block;
  const [from, to] = [offset / pageSize, (offset + length) / pageSize];
  let pages = 0;
  for (const { first, count } of saved.runs(block)) {
    pages += Math.max(0, Math.min(to, first + count) - Math.max(from, first));
  }
  return pages * pageSize;
}

/** Runs of pages that hold something: a page may be written and zero all the same. */
function* nonZeroPages(data: Buffer, zeros: Buffer): Generator<[start: number, end: number]> {
  let start: number | undefined;
  for (let at = 0; at < data.byteLength; at += zeros.byteLength) {
    if (data.compare(zeros, 0, zeros.byteLength, at, at + zeros.byteLength) === 0) {
      if (start !== undefined) yield [start, at];
      start = undefined;
    } else start ??= at;
  }
  if (start !== undefined) yield [start, data.byteLength];
}
