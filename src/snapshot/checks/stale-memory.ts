/**
 * Whether the RAM of a waiting VM is fresh where a file has zero pages. A QEMU that reads a mapped-ram file itself leaves such pages
 * as they are, until 10.2, and relies on them to be zero. They are not in a memory file that has been used before, nor where the
 * machine writes at reset (pseries: its device tree).
 */
import { constants } from 'node:fs';
import { isZeroPage, wordsOf } from '../../channels/zero-page.js';
import { writtenPages } from '../../guest/qemu/copied-memory.js';
import type { QemuVm } from '../../guest/qemu/qemu-vm.js';
import type { QemuRamBlock } from '../../guest/qemu/ram-block-table.js';
import { dataExtents } from '../../io/file/data-extents.js';
import { releaseFiles } from '../../io/file/open-file.js';
import { readFully } from '../../io/file/positional-io.js';
import { pageMapUnit } from '../../io/process/page-map.js';
import { openProcessMapping, type ProcessMapping, readProcessMaps } from '../../io/process/process-maps.js';
import { ProcessMemory } from '../../io/process/process-memory.js';
import type { ImageBlock, MappedRamImage } from '../../mapped-ram/image.js';

/** What is read at once. */
const PIECE_BYTES = 2 ** 20;

/** Reads memory of a block into `into`, from byte `start` of the block on. */
type ReadMemory = (start: number, into: Buffer) => void;

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
  using memory = ProcessMemory.open(pid);
  for (const saved of image.blocks) {
    const block = present.find(({ idstr }) => idstr === saved.idstr);
    if (block?.hostAddress === undefined) continue;
    const address = block.hostAddress;
    const inProcess: ReadMemory = (start, into) => memory.read(address + BigInt(start), into);
    const stale =
      touchedPages(pid, saved, address).some((range) => isStale(saved, range, inProcess)) ||
      isFileStale(pid, saved, block, maps);
    if (stale) return saved.idstr;
  }
  return undefined;
}

interface ByteRange {
  start: number;
  end: number;
}

/** What the process has written to, in bytes of the block. */
function touchedPages(pid: number, { usedLength: length }: ImageBlock, start: bigint): ByteRange[] {
  const unit = pageMapUnit();
  return [...writtenPages(pid, [{ start, length }])].map(({ run }) => ({
    start: run.first * unit,
    end: Math.min(length, (run.first + run.count) * unit),
  }));
}

/** Whether the file behind a block, where it has one, holds what the block would show. */
function isFileStale(
  pid: number,
  saved: ImageBlock,
  { hostAddress = 0n }: QemuRamBlock,
  maps: readonly ProcessMapping[],
): boolean {
  const mapping = maps.find(
    ({ start, length }) => start <= hostAddress && hostAddress < start + BigInt(length),
  );
  if (mapping === undefined) return false;
  const fd = openProcessMapping(pid, mapping, constants.O_RDONLY);
  try {
    const offset = mapping.offset + Number(hostAddress - mapping.start);
    const inFile: ReadMemory = (start, into) => {
      into.fill(0, readFully(fd, into, offset + start));
    };
    for (const { start, end } of dataExtents(fd, offset, offset + saved.usedLength)) {
      if (isStale(saved, { start: start - offset, end: end - offset }, inFile)) return true;
    }
    return false;
  } finally {
    releaseFiles([fd]);
  }
}

/** Whether memory holds anything in those pages of a range that are zero in the file. */
function isStale({ bitmap, pageSize }: ImageBlock, { start, end }: ByteRange, read: ReadMemory): boolean {
  const atOnce = Math.max(1, Math.floor(PIECE_BYTES / pageSize));
  for (const run of bitmap.clearRuns(Math.floor(start / pageSize), Math.ceil(end / pageSize), atOnce)) {
    const bytes = Buffer.alloc(run.count * pageSize);
    read(run.first * pageSize, bytes);
    if (!isZeroPage(bytes, wordsOf(bytes), 0, bytes.byteLength)) return true;
  }
  return false;
}
