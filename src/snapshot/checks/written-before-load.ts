/**
 * What a waiting QEMU has written into its memory before it is given a state. Machines do so when they are reset, which they are
 * before a load too: pseries puts its device tree into the guest's RAM, `-device loader` its data. A load of all pages overwrites
 * that; a mapping of them does not.
 */
import { ProcessMemory } from '../../io/process/process-memory.js';
import type { PageRun } from '../../mapped-ram/bitmap.js';
import type { ImageBlock, MappedRamImage } from '../../mapped-ram/image.js';
import type { CheckedFile } from '../files/checked-file.js';
import { mappedBlocks } from './mapped-memory.js';
import { unlikePages } from './unlike-pages.js';

export interface WrittenPages {
  block: ImageBlock;
  run: PageRun;
}

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
  const { qemu, blocks } = mappedBlocks(image, checked, pid, mapped);
  if (blocks.every(({ written }) => written.length === 0)) return [];
  using memory = openMemory(qemu);
  const found: WrittenPages[] = [];
  for (const { block, address, written } of blocks) {
    for (const run of written) {
      if (memory === undefined) {
        found.push({ block, run });
        continue;
      }
      // With `-overcommit mem-lock=on` the kernel makes copies of all pages, which nobody has changed.
      const pages = await unlikePages(image, block, run, (start, into) =>
        memory.read(address + BigInt(start), into),
      );
      found.push(...pages.map((page) => ({ block, run: { first: page, count: 1 } })));
    }
  }
  return found;
}

/** Undefined without the right to read it: then every page that was written to counts as different. */
function openMemory(pid: number): ProcessMemory | undefined {
  try {
    return ProcessMemory.open(pid);
  } catch {
    return undefined;
  }
}
