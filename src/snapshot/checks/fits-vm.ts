/** Whether a file can be loaded into a VM: asked before QEMU sees it, since QEMU itself hardly asks. */
import { MapramError } from '../../errors.js';
import { cpuIdentity } from '../../guest/qemu/cpu-identity.js';
import type { QemuVm } from '../../guest/qemu/qemu-vm.js';
import type { CommandLineOption } from '../../launch/command-line.js';
import { cpuArgument, cpuArgumentOf } from '../../launch/cpu-argument.js';
import type { CpuIdentity } from '../../launch/cpu-identity.js';
import type { MappedRamImage } from '../../mapped-ram/image.js';
import { cpuMismatch, hostCpuWarning, recordedCpu } from './cpu-fit.js';

export interface FitOptions {
  /** Take a CPU that lacks what the saved one had, with a warning. */
  allowCpuMismatch?: boolean | undefined;
  /** The command line of the VM, where it is known from elsewhere than its process. */
  commandLine?: readonly CommandLineOption[] | undefined;
  /** What is being done, for errors; `loading FILE into the VM at ADDRESS` by default. */
  action?: string | undefined;
  onWarning?: ((message: string) => void) | undefined;
}

/**
 * @throws MapramError `VM` naming the first difference: QEMU would load a 64 MiB file into a 128 MiB VM, or the state of one CPU
 *   into a VM with two, without a word
 */
export async function assertFitsVm(
  image: MappedRamImage,
  vm: QemuVm,
  options: FitOptions = {},
): Promise<void> {
  const { action = `loading ${image.path} into the VM at ${vm.address}` } = options;
  const refuse = (difference: string) =>
    new MapramError('VM', `${action}: ${difference}`, { path: image.path });
  const saved = recordedCpu(image);
  const [machine, blocks, processors, cpu] = await Promise.all([
    vm.machine(),
    vm.ramBlocks(),
    vm.client.execute('query-cpus-fast'),
    saved === undefined ? undefined : presentCpu(vm, saved, options),
  ]);
  if (image.configuration.machine !== machine) {
    throw refuse(
      `the file is of machine type ${image.configuration.machine}, the VM is a ${machine}; start QEMU with -machine ${image.configuration.machine}`,
    );
  }
  for (const { idstr, usedLength } of image.blocks) {
    const block = blocks.find((candidate) => candidate.idstr === idstr);
    if (!block)
      throw refuse(
        `the file has a RAM block ${idstr}, which the VM lacks; start QEMU with the same memory and devices${idstr.endsWith('.rom') ? ', and with the ROM of that device (without romfile=, or with the same)' : ''}`,
      );
    // Blocks whose total is larger than what is used (ACPI tables) are resized by QEMU when they are loaded.
    const resizable = block.totalLength > block.usedLength;
    if (resizable ? usedLength > block.totalLength : usedLength !== block.usedLength) {
      throw refuse(
        `RAM block ${idstr} has ${usedLength} bytes in the file and ${block.usedLength} in the VM; ${sameSize(idstr, usedLength)}`,
      );
    }
  }
  const count = image.devices.filter(({ idstr }) => idstr === 'cpu_common').length;
  if (count > 0 && count !== processors.length) {
    throw refuse(`the file has ${count} CPUs and the VM ${processors.length}; start QEMU with the same -smp`);
  }
  if (saved === undefined || cpu === undefined) return;
  const caution = hostCpuWarning(image, cpu);
  if (caution !== undefined) options.onWarning?.(caution);
  const mismatch = cpuMismatch(saved, cpu);
  if (mismatch === undefined) return;
  if (options.allowCpuMismatch !== true)
    throw refuse(`${mismatch}; start QEMU with the same -cpu, or use --allow-cpu-mismatch`);
  options.onWarning?.(`${mismatch}: it may crash or compute wrong results`);
}

async function presentCpu(
  vm: QemuVm,
  saved: CpuIdentity,
  { commandLine }: FitOptions,
): Promise<CpuIdentity | undefined> {
  const pid = vm.peerPid();
  const ofProcess = pid === undefined ? undefined : cpuArgumentOf(pid);
  return await cpuIdentity(vm, commandLine === undefined ? ofProcess : cpuArgument(commandLine), saved);
}

/** What makes a block as large as it was. */
function sameSize(idstr: string, bytes: number): string {
  if (idstr.endsWith('.rom') && idstr.includes('/')) {
    return `give that device romsize=0x${bytes.toString(16)}, or the ROM of the saved VM with romfile=`;
  }
  if (/\.flash\d+$/.test(idstr)) return 'start QEMU with UEFI images of the same size';
  if (/\b(bios|rom)$/.test(idstr)) return 'start QEMU with the same firmware (-bios)';
  return 'start QEMU with the same memory (-m, and size= of its objects)';
}
