/**
 * The file from which a VM was resumed: its RAM is a private mapping of the file's page areas, so pages that the guest
 * has not written are still those of the file.
 */

import { constants } from 'node:fs';
import { defined } from '../../defined.js';
import type { QemuVm } from '../../guest/qemu/qemu-vm.js';
import type { QemuRamBlock } from '../../guest/qemu/ram-block-table.js';
import { releaseFiles } from '../../io/file/open-file.js';
import { pageMapUnit } from '../../io/process/page-map.js';
import { openProcessMapping, type ProcessMapping, readProcessMaps } from '../../io/process/process-maps.js';
import { ProcessMemory } from '../../io/process/process-memory.js';
import { type ImageBlock, MappedRamImage } from '../../mapped-ram/image.js';

/** A block of the VM beside the block of the file that is mapped there, if it is. */
export interface BaseBlock {
  idstr: string;
  usedLength: number;
  /** Address in QEMU's process. */
  address: bigint;
  /** Present where the block's memory is a copy-on-write mapping of this block of the file. */
  base?: ImageBlock;
}

export class BaseSnapshot implements AsyncDisposable {
  private constructor(
    readonly pid: number,
    /** As it was called when it was mapped; it may have been removed or replaced since. */
    readonly path: string,
    /** Open for reading, even if the file has no name any more. */
    readonly fd: number,
    readonly image: MappedRamImage,
    /** In the order of the file. */
    readonly blocks: readonly BaseBlock[],
    readonly memory: ProcessMemory,
  ) {}

  /**
   * Finds the file under the VM's memory. Undefined for a VM that was not resumed from one, or whose process cannot be looked
   * into from here.
   */
  static async find(vm: QemuVm): Promise<BaseSnapshot | undefined> {
    const pid = vm.peerPid();
    if (pid === undefined) return undefined;
    const blocks = await vm.ramBlocks();
    let opened: { fd: number; image?: MappedRamImage; memory?: ProcessMemory } | undefined;
    try {
      const maps = readProcessMaps(pid);
      const mapping = blocks.map((block) => copyOf(maps, block)).find((found) => found !== undefined);
      if (mapping === undefined) return undefined;
      opened = { fd: openProcessMapping(pid, mapping, constants.O_RDONLY) };
      const image = await MappedRamImage.open(`/proc/self/fd/${opened.fd}`);
      opened.image = image;
      const matched = match(blocks, maps, mapping, image);
      if (matched !== undefined && (await canSaveDevices(vm))) {
        opened.memory = ProcessMemory.open(pid);
        return new BaseSnapshot(pid, mapping.path, opened.fd, image, matched, opened.memory);
      }
    } catch {
      // Another user's process, or a mapping of something else than a snapshot: it is saved as any other VM.
    }
    opened?.memory?.[Symbol.dispose]();
    await opened?.image?.close();
    if (opened !== undefined) releaseFiles([opened.fd]);
    return undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.memory[Symbol.dispose]();
    await this.image.close();
    releaseFiles([this.fd]);
  }
}

/** Whether QEMU writes its device state without RAM; builds for other processors than x86 may not. */
async function canSaveDevices(vm: QemuVm): Promise<boolean> {
  const commands = await vm.client.execute('query-commands');
  return commands.some(({ name }) => name === 'xen-save-devices-state');
}

/** The private, writable mapping of a file in which the block lies. */
function copyOf(maps: readonly ProcessMapping[], { hostAddress, usedLength }: QemuRamBlock) {
  if (hostAddress === undefined) return undefined;
  return maps.find(
    ({ start, length, shared, writable }) =>
      !shared &&
      writable &&
      start <= hostAddress &&
      hostAddress + BigInt(usedLength) <= start + BigInt(length),
  );
}

/** Undefined when the VM is not that of the file: other blocks, or none of them where the file has its pages. */
function match(
  blocks: readonly QemuRamBlock[],
  maps: readonly ProcessMapping[],
  { inode, device }: ProcessMapping,
  image: MappedRamImage,
): BaseBlock[] | undefined {
  if (!image.complete || image.earlySections.length > 0 || image.pageSize !== pageMapUnit()) return undefined;
  const matched: BaseBlock[] = [];
  for (const saved of image.blocks) {
    const block = blocks.find(({ idstr }) => idstr === saved.idstr);
    if (block?.hostAddress === undefined) return undefined;
    const { idstr, usedLength, hostAddress } = block;
    const mapping = copyOf(maps, block);
    const offset = mapping && mapping.offset + Number(hostAddress - mapping.start);
    const isCopy =
      mapping?.inode === inode &&
      mapping.device === device &&
      offset === saved.pagesOffset &&
      usedLength === saved.usedLength;
    matched.push({
      idstr,
      usedLength,
      address: hostAddress,
      ...defined({ base: isCopy ? saved : undefined }),
    });
  }
  return matched.some(({ base }) => base !== undefined) ? matched : undefined;
}
