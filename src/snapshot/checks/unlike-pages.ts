/** Pages of a VM's memory that are not what an image says. */
import type { ReadMemory } from '../../guest/qemu/block-memory.js';
import type { PageRun } from '../../mapped-ram/bitmap.js';
import type { ImageBlock, MappedRamImage } from '../../mapped-ram/image.js';

/** What is compared at once. */
const PIECE_BYTES = 4 << 20;

/** Whether bytes `start` to `end` of memory count as other than those of the image. */
export type IsUnlike = (present: Buffer, saved: Uint8Array, start: number, end: number) => boolean;

/** Every byte counts. */
export const differs: IsUnlike = (present, saved, start, end) =>
  present.compare(saved, start, end, start, end) !== 0;

/** @returns the numbers of the pages in `run` that are unlike, ascending */
export async function unlikePages(
  image: MappedRamImage,
  block: ImageBlock,
  { first: from, count: total }: PageRun,
  read: ReadMemory,
  isUnlike: IsUnlike = differs,
): Promise<number[]> {
  const { pageSize } = block;
  const atOnce = Math.max(1, Math.floor(PIECE_BYTES / pageSize));
  const found: number[] = [];
  for (let first = from; first < from + total; first += atOnce) {
    const count = Math.min(atOnce, from + total - first);
    const saved = await image.readPages(block, first, count);
    const present = Buffer.alloc(saved.byteLength);
    read(first * pageSize, present);
    if (present.equals(saved)) continue;
    for (let page = 0; page < count; page++)
      if (isUnlike(present, saved, page * pageSize, (page + 1) * pageSize)) found.push(first + page);
  }
  return found;
}
