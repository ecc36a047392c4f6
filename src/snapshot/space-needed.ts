/** How many bytes of pages saving a VM may write at most. */
import { readFileSync } from 'node:fs';
import type { QemuVm } from '../guest/qemu/qemu-vm.js';

/**
 * The RAM of the VM, or, where its process can be looked at, what of it was ever touched: the rest is zero pages, which
 * take no space.
 */
export async function memoryInUse(vm: QemuVm): Promise<number> {
  const blocks = await vm.ramBlocks();
  const ram = blocks.reduce((total, { usedLength }) => total + usedLength, 0);
  const pid = vm.peerPid();
  const resident = pid === undefined ? undefined : residentBytes(pid);
  return resident === undefined ? ram : Math.min(ram, resident);
}

/** VmRSS + VmSwap of /proc/PID/status; VmRSS includes shared memory files that are mapped. */
function residentBytes(pid: number): number | undefined {
  let status: string;
  try {
    status = readFileSync(`/proc/${pid}/status`, 'latin1');
  } catch {
    return undefined;
  }
  const kib = (name: string) =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? Number.NaN);
  const total = (kib('VmRSS') + kib('VmSwap')) * 1024;
  return Number.isFinite(total) ? total : undefined;
}
