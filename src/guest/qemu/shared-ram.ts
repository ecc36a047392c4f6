/**
 * Finds the files behind a QEMU's RAM blocks, so that mapram can map the same memory.
 *
 * The monitor tells the address of each block in QEMU's process (`info ramblock`, HVA); /proc/PID/maps tells which
 * file is mapped there and whether shared. Versions that do not print the address (7.2) are served by the properties
 * of the memory backend objects: block `mem0` is the object /objects/mem0 with its `mem-path`.
 */

import { constants } from 'node:fs';
import { defined } from '../../defined.js';
import { MapramError } from '../../errors.js';
import { releaseFiles } from '../../io/file/open-file.js';
import type { MemoryFile } from '../../io/memory/memory-map.js';
import { openProcessMapping, type ProcessMapping, readProcessMaps } from '../../io/process/process-maps.js';
import type { QemuVm } from './qemu-vm.js';
import type { QemuRamBlock } from './ram-block-table.js';

/** Where the memory of a block is; the caller closes its descriptor. */
export interface SharedRamBlock extends MemoryFile {
  idstr: string;
  usedLength: number;
  /** Path as the backend or the kernel names it, for messages. */
  path: string;
}

export interface SharedRam {
  opened: SharedRamBlock[];
  /** Names of those whose file was not found. */
  missing: string[];
}

/**
 * Opens the files of shared RAM blocks. What is opened is what is mapped: for writing only where the process may write as well, since
 * this one may have more rights than it, and a QEMU may lie about its memory.
 *
 * @param pid the QEMU process; it must be on this host
 * @param purpose `save`: the blocks that QEMU leaves out of the stream under `x-ignore-shared`, for reading; `load`: every block
 *   that can be written from outside, for writing
 */
export async function openSharedRam(
  vm: QemuVm,
  pid: number,
  purpose: 'save' | 'load' = 'save',
): Promise<SharedRam> {
  const isWanted = (backend: MemoryBackend) => (purpose === 'save' ? isIgnored(vm, backend) : backend.share);
  const flags = purpose === 'save' ? constants.O_RDONLY : constants.O_RDWR;
  const blocks = await blocksWith(vm, isWanted);
  const maps = readProcessMaps(pid);
  const opened: SharedRamBlock[] = [];
  const missing: string[] = [];
  const kept: { block: QemuRamBlock; backend: MemoryBackend; mapping: ProcessMapping }[] = [];
  try {
    for (const { block, backend } of blocks) {
      const { idstr, usedLength } = block;
      const found = mappingOf(maps, block, backend, purpose);
      if (!found) {
        missing.push(idstr);
        continue;
      }
      const { mapping, offset } = found;
      const fd = openProcessMapping(pid, mapping, flags);
      opened.push({ idstr, usedLength, fd, offset, path: mapping.path });
      kept.push({ block, backend, mapping });
    }
    // While it is open here its inode cannot come to mean another file: what is mapped now is what was opened.
    const now = readProcessMaps(pid);
    for (const { block, backend, mapping } of kept) {
      const { mapping: again } = mappingOf(now, block, backend, purpose) ?? {};
      if (
        again?.inode === mapping.inode &&
        again.device === mapping.device &&
        again.offset === mapping.offset
      )
        continue;
      throw new MapramError(
        'VM',
        `opening the memory ${block.idstr} of the VM at ${vm.address}: process ${pid} mapped something else there meanwhile`,
        { path: mapping.path },
      );
    }
    return { opened, missing };
  } catch (error) {
    releaseFiles(opened.map(({ fd }) => fd));
    throw error;
  }
}

async function blocksWith(
  vm: QemuVm,
  fits: (backend: MemoryBackend) => boolean,
): Promise<{ block: QemuRamBlock; backend: MemoryBackend }[]> {
  const blocks = await vm.ramBlocks();
  const found = await Promise.all(
    blocks.map(async (block) => ({ block, backend: await memoryBackend(vm, block.idstr) })),
  );
  return found.flatMap(({ block, backend }) => (backend && fits(backend) ? [{ block, backend }] : []));
}

/**
 * Name of the largest block that QEMU would send under `x-ignore-shared`, where these are more than half of what it leaves out;
 * undefined where it sends little enough: ROMs, flash, video memory.
 */
export async function blockNotShared(vm: QemuVm): Promise<string | undefined> {
  let left = 0;
  let sent = 0;
  let largest: QemuRamBlock | undefined;
  for (const block of await vm.ramBlocks()) {
    if (await isIgnoredWhenShared(vm, block.idstr)) left += block.usedLength;
    else {
      sent += block.usedLength;
      if (largest === undefined || block.usedLength > largest.usedLength) largest = block;
    }
  }
  return sent > left / 2 ? largest?.idstr : undefined;
}

/** Whether QEMU leaves the block out of the stream under `x-ignore-shared`. */
async function isIgnoredWhenShared(vm: QemuVm, idstr: string): Promise<boolean> {
  const backend = await memoryBackend(vm, idstr);
  return backend !== undefined && isIgnored(vm, backend);
}

/** Since 8.1 only memory with a name in a file system counts; memfd is sent page by page. */
function isIgnored(vm: QemuVm, { share, type }: MemoryBackend): boolean {
  return share && (type === 'memory-backend-file' || !vm.has('sharedMeansNamedFile'));
}

interface MemoryBackend {
  type: string;
  share: boolean;
  path?: string;
  /** Of `memory-backend-file,offset=`, since 8.1. */
  offset: number;
}

async function memoryBackend(vm: QemuVm, idstr: string): Promise<MemoryBackend | undefined> {
  const path = idstr.startsWith('/objects/') ? idstr : `/objects/${idstr}`;
  const get = async (property: string) => {
    try {
      return await vm.client.execute('qom-get', { path, property });
    } catch {
      return undefined;
    }
  };
  const [type, share, memPath, offset] = await Promise.all(['type', 'share', 'mem-path', 'offset'].map(get));
  if (typeof type !== 'string' || !type.startsWith('memory-backend-')) return undefined;
  return {
    type,
    share: share === true,
    offset: typeof offset === 'number' ? offset : 0,
    ...defined({ path: typeof memPath === 'string' ? memPath : undefined }),
  };
}

/**
 * The mapping that holds the whole block, and where in its file the block begins. One into which is to be loaded must be writable: the
 * kernel gives such a mapping only to a process that has opened the file for writing.
 */
function mappingOf(
  maps: readonly ProcessMapping[],
  block: QemuRamBlock,
  backend: MemoryBackend,
  purpose: 'save' | 'load',
): { mapping: ProcessMapping; offset: number } | undefined {
  const { hostAddress, usedLength } = block;
  const fits = ({ shared, writable, length }: ProcessMapping, skip: number) =>
    shared && (writable || purpose === 'save') && length - skip >= usedLength;
  if (hostAddress === undefined) {
    const mapping = maps.find(
      (candidate) =>
        candidate.path === backend.path &&
        candidate.offset <= backend.offset &&
        fits(candidate, backend.offset - candidate.offset),
    );
    return mapping && { mapping, offset: backend.offset };
  }
  const mapping = maps.find(
    ({ start, length }) => start <= hostAddress && hostAddress < start + BigInt(length),
  );
  const skip = mapping === undefined ? 0 : Number(hostAddress - mapping.start);
  return mapping && fits(mapping, skip) ? { mapping, offset: mapping.offset + skip } : undefined;
}
