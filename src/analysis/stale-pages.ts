import { read } from 'node:fs';
import { promisify } from 'node:util';
import { dataExtents } from '../io/file/data-extents.js';
import type { PageRun } from '../mapped-ram/bitmap.js';
import type { ImageBlock } from '../mapped-ram/image.js';

const CHUNK_BYTES = 2 ** 20;
const readAsync = promisify(read);

/**
 * The pages that are zero by the bitmap while their slots hold something: they were written once and became zero
 * later. Ordinary, and never to be loaded. Holes are not read.
 *
 * @param fd the image, open for reading; its file position moves
 * @param onRead called with the bytes of each read
 */
export async function* stalePages(
  fd: number,
  block: ImageBlock,
  signal?: AbortSignal,
  onRead: (bytes: number) => void = () => {},
): AsyncGenerator<PageRun, void, undefined> {
  const { pageSize, pagesOffset, usedLength, bitmap } = block;
  const chunkPages = Math.max(1, Math.floor(CHUNK_BYTES / pageSize));
  const buffer = Buffer.alloc(Math.min(chunkPages * pageSize, usedLength));
  const zeros = Buffer.alloc(pageSize);
  let run: PageRun | undefined;
  for (const extent of dataExtents(fd, pagesOffset, pagesOffset + usedLength)) {
    const from = Math.floor((extent.start - pagesOffset) / pageSize);
    const to = Math.ceil((extent.end - pagesOffset) / pageSize);
    for (const { first, count } of bitmap.clearRuns(from, to, chunkPages)) {
      signal?.throwIfAborted();
      const wanted = count * pageSize;
      const bytesRead = await readAll(fd, buffer.subarray(0, wanted), pagesOffset + first * pageSize);
      for (let at = 0; at + pageSize <= bytesRead; at += pageSize) {
        if (buffer.compare(zeros, 0, pageSize, at, at + pageSize) === 0) continue;
        const page = first + at / pageSize;
        if (run !== undefined && run.first + run.count === page) run.count++;
        else {
          if (run !== undefined) yield run;
          run = { first: page, count: 1 };
        }
      }
      onRead(bytesRead);
    }
  }
  if (run !== undefined) yield run;
}

/** The number of such pages. */
export async function countStalePages(...args: Parameters<typeof stalePages>): Promise<number> {
  let count = 0;
  for await (const run of stalePages(...args)) count += run.count;
  return count;
}

/** Reads until the buffer is full or the file ends. */
async function readAll(fd: number, buffer: Buffer, position: number): Promise<number> {
  let done = 0;
  while (done < buffer.length) {
    const { bytesRead } = await readAsync(fd, buffer, done, buffer.length - done, position + done);
    if (bytesRead === 0) break;
    done += bytesRead;
  }
  return done;
}
