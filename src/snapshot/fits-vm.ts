/** Whether a file can be loaded into a VM: asked before QEMU sees it, since QEMU itself hardly asks. */
import { MapramError } from '../errors.js';
import type { QemuVm } from '../guest/qemu/qemu-vm.js';
import type { MappedRamImage } from '../mapped-ram/image.js';

/**
 * @throws MapramError `VM` naming the first difference: QEMU would load a 64 MiB file into a 128 MiB VM, or the state of one CPU
 *   into a VM with two, without a word
 */
export async function assertFitsVm(image: MappedRamImage, vm: QemuVm): Promise<void> {
  const refuse = (difference: string) =>
    new MapramError('VM', `loading ${image.path} into the VM at ${vm.address}: ${difference}`, {
      path: image.path,
    });
  const [machine, blocks, processors] = await Promise.all([
    vm.machine(),
    vm.ramBlocks(),
    vm.client.execute('query-cpus-fast'),
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
        `the file has a RAM block ${idstr}, which the VM lacks; start QEMU with the same memory and devices`,
      );
    // Blocks whose total is larger than what is used (ACPI tables) are resized by QEMU when they are loaded.
    const resizable = block.totalLength > block.usedLength;
    if (resizable ? usedLength > block.totalLength : usedLength !== block.usedLength) {
      throw refuse(
        `RAM block ${idstr} has ${usedLength} bytes in the file and ${block.usedLength} in the VM; start QEMU with the same memory (-m) and firmware (-bios)`,
      );
    }
  }
  const saved = image.devices.filter(({ idstr }) => idstr === 'cpu_common').length;
  const present = (processors as unknown[]).length;
  if (saved > 0 && saved !== present) {
    throw refuse(`the file has ${saved} CPUs and the VM ${present}; start QEMU with the same -smp`);
  }
}
