/** A picture of the memory in a file, from its bitmaps and holes: no page is read, so it takes milliseconds for any size. */
import { constants } from 'node:fs';
import { dataExtents } from '../io/file/data-extents.js';
import { closeFile, openFile } from '../io/file/open-file.js';
import { type ImageBlock, MappedRamImage } from '../mapped-ram/image.js';

export interface MemoryMap {
  readonly file: string;
  readonly pageSize: number;
  readonly blocks: readonly BlockMap[];
}

export interface BlockMap {
  readonly idstr: string;
  /** Bytes. */
  readonly usedLength: number;
  /** Where in the file page 0 is. */
  readonly pagesOffset: number;
  /** Bytes of the block that a cell stands for; the last cell may stand for fewer. */
  readonly cellBytes: number;
  /** For each cell the share of its pages that have contents, 0 to 100; not 0 when there is any, not 100 unless all have. */
  readonly present: readonly number[];
  /**
   * For each cell the share of its pages that are zero for the guest and take room on the disk all the same: they became
   * zero after they were written, or the file was copied without its holes.
   */
  readonly unused: readonly number[];
  readonly presentPages: number;
  readonly unusedPages: number;
}

/** Cells of all blocks together, about. */
const CELLS = 8192;

/** @throws MapramError as opening an image does */
export async function memoryMap(file: string): Promise<MemoryMap> {
  await using image = await MappedRamImage.open(file);
  const pages = image.blocks.reduce((sum, { pageCount }) => sum + pageCount, 0);
  const cellPages = 2 ** Math.max(0, Math.ceil(Math.log2(pages / CELLS)));
  const fd = openFile(file, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    return {
      file,
      pageSize: image.pageSize,
      blocks: image.blocks.map((block) => mapBlock(fd, block, cellPages)),
    };
  } finally {
    closeFile(fd);
  }
}

function mapBlock(fd: number, block: ImageBlock, cellPages: number): BlockMap {
  const { idstr, usedLength, pagesOffset, pageSize, pageCount, bitmap } = block;
  const cells = Math.ceil(pageCount / cellPages);
  const present = new Float64Array(cells);
  const unused = new Float64Array(cells);
  for (const { first, count } of bitmap.runs(0, pageCount)) spread(present, cellPages, first, count);
  for (const extent of dataExtents(fd, pagesOffset, pagesOffset + usedLength)) {
    // Pages of which only a part is allocated belong to a neighbour's block on the disk.
    const from = Math.ceil((extent.start - pagesOffset) / pageSize);
    const to = Math.floor((extent.end - pagesOffset) / pageSize);
    if (from >= to) continue;
    for (const { first, count } of bitmap.clearRuns(from, to)) spread(unused, cellPages, first, count);
  }
  const share = (counts: Float64Array) =>
    Array.from(counts, (count, cell) => percentage(count, Math.min(cellPages, pageCount - cell * cellPages)));
  return {
    idstr,
    usedLength,
    pagesOffset,
    cellBytes: cellPages * pageSize,
    present: share(present),
    unused: share(unused),
    presentPages: sum(present),
    unusedPages: sum(unused),
  };
}

/** Adds a run of pages to the cells that it touches. */
function spread(counts: Float64Array, cellPages: number, first: number, count: number): void {
  let page = first;
  const end = first + count;
  while (page < end) {
    const cell = Math.floor(page / cellPages);
    const next = Math.min(end, (cell + 1) * cellPages);
    counts[cell] = (counts[cell] ?? 0) + next - page;
    page = next;
  }
}

/** Rounded, but 0 and 100 only when exact. */
function percentage(count: number, of: number): number {
  if (count === 0) return 0;
  if (count === of) return 100;
  return Math.min(99, Math.max(1, Math.round((100 * count) / of)));
}

function sum(counts: Float64Array): number {
  return counts.reduce((total, count) => total + count, 0);
}
