/**
 * Whether the RAM of a waiting VM is fresh where a file has zero pages. A QEMU that reads a mapped-ram file itself leaves such pages
 * as they are, until 10.2, and relies on them to be zero. They are not in a memory file that has been used before, nor where the
 * machine writes at reset (pseries: its device tree).
 */
import { isZeroPage, wordsOf } from '../../channels/zero-page.js';
import { BlockMemory, type ReadMemory } from '../../guest/qemu/block-memory.js';
import type { QemuVm } from '../../guest/qemu/qemu-vm.js';
import type { Extent } from '../../io/file/data-extents.js';
import { readProcessMaps } from '../../io/process/process-maps.js';
import { ProcessMemory } from '../../io/process/process-memory.js';
import type { ImageBlock, MappedRamImage } from '../../mapped-ram/image.js';

/** What is read at once. */
const PIECE_BYTES = 2 ** 20;

/**
 * A block of the VM that is not zero where the file says so. It stops at the first page found; zero pages of the file are read in
 * the VM only where its memory holds data at all.
 *
 * @returns its name; undefined where there is none
 * @throws MapramError `IO` when the VM's process cannot be looked into
 */
export async function staleBlock(
  vm: QemuVm,
  pid: number,
  image: MappedRamImage,
): Promise<string | undefined> {
  const present = await vm.ramBlocks();
  const maps = readProcessMaps(pid);
  using process = ProcessMemory.open(pid);
  for (const saved of image.blocks) {
    const block = present.find(({ idstr }) => idstr === saved.idstr);
    if (block?.hostAddress === undefined) continue;
    using memory = BlockMemory.open(process, { ...block, usedLength: saved.usedLength }, maps);
    for (const range of memory.held()) if (isStale(saved, range, memory.read)) return saved.idstr;
  }
  return undefined;
}

/** Whether memory holds anything in those pages of a range that are zero in the file. */
function isStale({ bitmap, pageSize }: ImageBlock, { start, end }: Extent, read: ReadMemory): boolean {
  const atOnce = Math.max(1, Math.floor(PIECE_BYTES / pageSize));
  for (const run of bitmap.clearRuns(Math.floor(start / pageSize), Math.ceil(end / pageSize), atOnce)) {
    const bytes = Buffer.alloc(run.count * pageSize);
    read(run.first * pageSize, bytes);
    if (!isZeroPage(bytes, wordsOf(bytes), 0, bytes.byteLength)) return true;
  }
  return false;
}
