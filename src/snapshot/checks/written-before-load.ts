/**
 * What a waiting QEMU has written into its memory before it is given a state. Machines do so when they are reset, which they are
 * before a load too: pseries puts its device tree into the guest's RAM, `-device loader` its data. A load of all pages overwrites
 * that; a mapping of them does not.
 */
import { MapramError } from '../../errors.js';
import { type CopiedRange, copiedRanges, writtenPages } from '../../guest/qemu/copied-memory.js';
import { pageMapUnit } from '../../io/process/page-map.js';
import { ProcessMemory } from '../../io/process/process-memory.js';
import { processTree } from '../../io/process/process-tree.js';
import type { PageRun } from '../../mapped-ram/bitmap.js';
import type { ImageBlock, MappedRamImage } from '../../mapped-ram/image.js';
import type { CheckedFile } from '../files/checked-file.js';

export interface WrittenPages {
  block: ImageBlock;
  run: PageRun;
}

/** Pages that are compared at once. */
const COMPARED_PAGES = 1024;

/**
 * The pages of mapped blocks that are not what the image says, since QEMU has written to them.
 *
 * @param checked the file behind the image; what QEMU has mapped must be this very file, whatever its path led to when QEMU opened it
 * @param pid QEMU, or a program that has started it
 * @param mapped names of the blocks that QEMU has mapped from the image
 * @throws MapramError `UNSUPPORTED` when QEMU's memory cannot be looked at, so that nobody knows, or is not that of the file
 */
export async function writtenBeforeLoad(
  image: MappedRamImage,
  checked: CheckedFile,
  pid: number,
  mapped: readonly string[],
): Promise<WrittenPages[]> {
  if (mapped.length === 0) return [];
  const blocks = image.blocks.filter(({ idstr }) => mapped.includes(idstr));
  const { qemu, written } = look(checked, pid, blocks);
  if (written.length === 0) return [];
  using memory = openMemory(qemu);
  const unit = pageMapUnit();
  const found: WrittenPages[] = [];
  for (const { range, run } of written) {
    const from = range.offset + run.first * unit;
    for (const block of blocks) {
      const pages = pagesOf(block, from, from + run.count * unit);
      if (pages === undefined) continue;
      if (memory === undefined) found.push({ block, run: pages });
      else found.push(...(await differing(image, block, pages, range, memory)));
    }
  }
  return found;
}

/** The pages of a block that bytes of the file belong to, if any do. */
function pagesOf(
  { pagesOffset, usedLength, pageSize }: ImageBlock,
  from: number,
  to: number,
): PageRun | undefined {
  const start = Math.max(from, pagesOffset) - pagesOffset;
  const end = Math.min(to, pagesOffset + usedLength) - pagesOffset;
  if (start >= end) return undefined;
  const first = Math.floor(start / pageSize);
  return { first, count: Math.ceil(end / pageSize) - first };
}

function look(checked: CheckedFile, pid: number, blocks: readonly ImageBlock[]) {
  const { path: file } = checked;
  const refuse = (problem: string, cause?: unknown) =>
    new MapramError(
      'UNSUPPORTED',
      `resuming ${file}: ${problem}, so what QEMU has written to its memory before it has its state cannot be put right; use "mapram restore"`,
      { path: file, cause },
    );
  try {
    for (const qemu of processTree(pid)) {
      const ranges = copiedRanges(qemu, checked.mapped);
      if (blocks.every((block) => isIn(block, ranges)))
        return { qemu, written: [...writtenPages(qemu, ranges)] };
    }
  } catch (error) {
    if (error instanceof MapramError) throw refuse(error.message, error);
    throw error;
  }
  throw refuse(`neither process ${pid} nor one that it has started has the file mapped`);
}

function isIn({ pagesOffset, usedLength }: ImageBlock, ranges: readonly CopiedRange[]): boolean {
  return ranges.some(
    ({ offset, length }) => offset <= pagesOffset && pagesOffset + usedLength <= offset + length,
  );
}

/** Undefined without the right to read it: then every page that was written to counts as different. */
function openMemory(pid: number): ProcessMemory | undefined {
  try {
    return ProcessMemory.open(pid);
  } catch {
    return undefined;
  }
}

/** With `-overcommit mem-lock=on` the kernel makes copies of all pages, which nobody has changed. */
async function differing(
  image: MappedRamImage,
  block: ImageBlock,
  { first: from, count: total }: PageRun,
  range: CopiedRange,
  memory: ProcessMemory,
): Promise<WrittenPages[]> {
  const { pageSize, pagesOffset } = block;
  const found: WrittenPages[] = [];
  for (let first = from; first < from + total; first += COMPARED_PAGES) {
    const count = Math.min(COMPARED_PAGES, from + total - first);
    const saved = await image.readPages(block, first, count);
    const present = Buffer.alloc(saved.byteLength);
    memory.read(range.start + BigInt(pagesOffset + first * pageSize - range.offset), present);
    for (let page = 0; page < count; page++) {
      const [start, end] = [page * pageSize, (page + 1) * pageSize];
      if (present.compare(saved, start, end, start, end) !== 0)
        found.push({ block, run: { first: first + page, count: 1 } });
    }
  }
  return found;
}
