/** Where a QEMU has mapped the blocks of an image, and which of their pages are its own copies by now. */
import { MapramError } from '../../errors.js';
import { type CopiedRange, copiedRanges, writtenPages } from '../../guest/qemu/copied-memory.js';
import { pageMapUnit } from '../../io/process/page-map.js';
import { processTree } from '../../io/process/process-tree.js';
import type { PageRun } from '../../mapped-ram/bitmap.js';
import type { ImageBlock, MappedRamImage } from '../../mapped-ram/image.js';
import type { CheckedFile } from '../files/checked-file.js';

export interface MappedBlock {
  block: ImageBlock;
  /** Of its first byte in QEMU's memory. */
  address: bigint;
  /** Pages to which QEMU has written, whether or not that has changed them. */
  written: PageRun[];
}

/**
 * @param checked the file behind the image; what QEMU has mapped must be this very file, whatever its path led to when QEMU opened it
 * @param pid QEMU, or a program that has started it
 * @param mapped names of the blocks that QEMU has mapped from the image
 * @throws MapramError `UNSUPPORTED` when QEMU's memory cannot be looked at, so that nobody knows, or is not that of the file
 */
export function mappedBlocks(
  image: MappedRamImage,
  checked: CheckedFile,
  pid: number,
  mapped: readonly string[],
): { qemu: number; blocks: MappedBlock[] } {
  const blocks = image.blocks.filter(({ idstr }) => mapped.includes(idstr));
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
      const found = blocks.map((block) => ({ block, range: ranges.find((range) => isIn(block, range)) }));
      if (found.every(({ range }) => range !== undefined))
        return { qemu, blocks: withWrittenPages(qemu, found as { block: ImageBlock; range: CopiedRange }[]) };
    }
  } catch (error) {
    if (error instanceof MapramError) throw refuse(error.message, error);
    throw error;
  }
  throw refuse(`neither process ${pid} nor one that it has started has the file mapped`);
}

function isIn({ pagesOffset, usedLength }: ImageBlock, { offset, length }: CopiedRange): boolean {
  return offset <= pagesOffset && pagesOffset + usedLength <= offset + length;
}

function withWrittenPages(
  qemu: number,
  found: readonly { block: ImageBlock; range: CopiedRange }[],
): MappedBlock[] {
  const ranges = [...new Set(found.map(({ range }) => range))];
  const written = [...writtenPages(qemu, ranges)];
  const unit = pageMapUnit();
  return found.map(({ block, range }) => ({
    block,
    address: range.start + BigInt(block.pagesOffset - range.offset),
    written: written
      .filter((one) => one.range === range)
      .flatMap(({ run }) => {
        const from = range.offset + run.first * unit;
        return pagesOf(block, from, from + run.count * unit) ?? [];
      }),
  }));
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
