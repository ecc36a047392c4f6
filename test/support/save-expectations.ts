/** What must hold for every saved file of a guest that watches its own memory. */
import assert from 'node:assert/strict';
import { loadMappedRam, type NativeOptions } from './native-migration.js';
import { startVm, type TestVm, type VmOptions } from './qemu.js';

/** What a VM was when it was saved, for comparison with the one that goes on from the file. */
export interface SavedGuest {
  options: VmOptions;
  counter: number;
  checksum: string | undefined;
}

export function savedGuest(vm: TestVm): SavedGuest {
  const { architecture, machine, memory, memoryMiB, guest, fillMiB, churn } = vm.options;
  return {
    options: { architecture, machine, memory, memoryMiB, guest, fillMiB, ...(churn && { churn }) },
    counter: vm.console.counter,
    checksum: vm.console.bootChecksum,
  };
}

/** The guest counts on from where it was, and finds its memory as it left it. */
export async function assertGoesOn(vm: TestVm, saved: SavedGuest): Promise<void> {
  const first = await vm.console.waitForCounterAbove();
  assert.ok(first > saved.counter, `the counter went from ${saved.counter} to ${first}`);
  await vm.console.waitForCounterAbove(first + 9);
  assert.equal(await vm.console.checksum(), saved.checksum);
  assert.deepEqual(vm.console.torn, []);
}

/** Stock QEMU loads `file` with mapped-ram, and the guest goes on. */
export async function assertQemuLoads(
  file: string,
  saved: SavedGuest,
  options: NativeOptions = {},
): Promise<void> {
  await using vm = await startVm({ ...saved.options, incoming: true });
  await loadMappedRam(vm, file, options);
  if ((await vm.status()) !== 'running') await vm.cont();
  await assertGoesOn(vm, saved);
}
