/** How many bytes of pages saving a VM may write at most. */

import { constants } from 'node:fs';
import type { QemuVm } from '../../guest/qemu/qemu-vm.js';
import { dataExtents } from '../../io/file/data-extents.js';
import { releaseFiles } from '../../io/file/open-file.js';
import { readKibFields } from '../../io/process/proc-fields.js';
import { openProcessMapping, type ProcessMapping, readProcessMaps } from '../../io/process/process-maps.js';

/**
 * The RAM of the VM, or, where its process can be looked at, what of it was ever touched: the rest is zero pages, which
 * take no space. That is memory of its own, huge pages, and the data of files in which its RAM lies, whoever has filled these.
 */
export async function memoryInUse(vm: QemuVm): Promise<number> {
  const blocks = await vm.ramBlocks();
  const ram = blocks.reduce((total, { usedLength }) => total + usedLength, 0);
  const pid = vm.peerPid();
  if (pid === undefined) return ram;
  try {
    return Math.min(ram, anonymousBytes(pid) + fileBytes(pid));
  } catch {
    return ram;
  }
}

/** From /proc/PID/status; huge pages are in none of its other figures. */
function anonymousBytes(pid: number): number {
  const bytes = readKibFields(`/proc/${pid}/status`);
  return ['RssAnon', 'VmSwap', 'HugetlbPages'].reduce((sum, name) => sum + (bytes(name) ?? 0), 0);
}

/** Smaller mappings are of libraries and the like. */
const RAM_SINCE_BYTES = 2 ** 20;

/** Data of the files that are mapped as the VM's RAM, for writing: once where several mappings show the same part. */
function fileBytes(pid: number): number {
  let bytes = 0;
  const counted = new Set<string>();
  for (const mapping of readProcessMaps(pid)) {
    const { writable, length, device, inode, offset } = mapping;
    const key = `${device} ${inode} ${offset}`;
    if (!writable || length < RAM_SINCE_BYTES || counted.has(key)) continue;
    counted.add(key);
    bytes += dataBytes(pid, mapping);
  }
  return bytes;
}

/** All of the mapping where its file cannot be opened here. */
function dataBytes(pid: number, mapping: ProcessMapping): number {
  const { offset, length } = mapping;
  let fd: number;
  try {
    fd = openProcessMapping(pid, mapping, constants.O_RDONLY);
  } catch {
    return length;
  }
  try {
    let bytes = 0;
    for (const { start, end } of dataExtents(fd, offset, offset + length)) bytes += end - start;
    return bytes;
  } finally {
    releaseFiles([fd]);
  }
}
