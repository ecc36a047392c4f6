/** Which way of saving fits a VM: `--method auto` and its reasons. */
import { MapramError } from '../errors.js';
import type { QemuVm } from '../guest/qemu/qemu-vm.js';
import { isIgnoredWhenShared } from '../guest/qemu/shared-ram.js';

/**
 * - `shared`: mapram copies the RAM out of the file behind it; QEMU sends the device state. Any QEMU, stopped guest.
 * - `native`: QEMU 9.1 or later writes the file itself with mapped-ram, multifd and direct-io.
 */
export type SaveMethod = 'shared' | 'native';

export interface MethodChoice {
  method: SaveMethod;
  /** Why, in half a sentence; part of the result. */
  reason: string;
}

/** QEMU has `direct-io` from this release on; without it, native saving goes through the page cache. */
export const NATIVE_SINCE = [9, 1] as const;

/** RAM below this that has to come through the stream is a ROM or video memory, not the guest's main memory. */
const SMALL_BLOCK = 64 << 20;

/**
 * @param wanted what the user asked for
 * @param live whether the guest is to run on while RAM is copied
 * @throws MapramError `UNSUPPORTED` when the VM cannot be saved the way that was asked for
 */
export async function chooseMethod(
  vm: QemuVm,
  wanted: SaveMethod | 'auto',
  live: boolean,
): Promise<MethodChoice> {
  const shared = await whyNotShared(vm, live);
  const native = vm.isAtLeast(...NATIVE_SINCE)
    ? undefined
    : `QEMU ${vm.versionText} has no direct-io migration (9.1 has)`;
  const refuse = (method: string, problem: string) =>
    new MapramError('UNSUPPORTED', `saving the VM at ${vm.address} with --method ${method}: ${problem}`, {
      path: vm.address,
    });
  switch (wanted) {
    case 'shared':
      if (shared !== undefined) throw refuse('shared', `${shared}; use --method native`);
      return { method: 'shared', reason: 'asked for' };
    case 'native':
      if (native !== undefined) throw refuse('native', `${native}; use --method shared`);
      return { method: 'native', reason: 'asked for' };
    case 'auto':
      if (shared === undefined)
        return { method: 'shared', reason: 'the RAM of the VM is a shared file that can be mapped' };
      if (native === undefined) return { method: 'native', reason: shared };
      throw refuse(
        'auto',
        `${shared}, and ${native}; start the VM with memory-backend-file,share=on or a newer QEMU`,
      );
  }
}

async function whyNotShared(vm: QemuVm, live: boolean): Promise<string | undefined> {
  if (live) return 'a running guest is saved by QEMU itself, since only QEMU knows which pages it dirties';
  for (const { idstr, usedLength } of await vm.ramBlocks()) {
    if (usedLength >= SMALL_BLOCK && !(await isIgnoredWhenShared(vm, idstr))) {
      return `RAM block ${idstr} is not memory-backend-file,share=on`;
    }
  }
  return undefined;
}
