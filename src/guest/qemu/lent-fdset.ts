import type { QemuVm } from './qemu-vm.js';

/** A set of descriptors inside QEMU, until disposed. */
export interface LentFdset extends AsyncDisposable {
  /** `/dev/fdset/N`: QEMU picks the member whose access mode and O_DIRECT bit are those it wants. */
  path: string;
}

/** Passes duplicates of `fds` to QEMU as a new fdset. The originals may be closed afterwards. */
export async function lendFdset(vm: QemuVm, fds: readonly number[]): Promise<LentFdset> {
  let id: number | undefined;
  const remove = async () => {
    if (id === undefined) return;
    const used = id;
    id = undefined;
    // Where QEMU is gone its descriptors are too.
    await vm.client.execute('remove-fd', { 'fdset-id': used }).catch(() => {});
  };
  try {
    for (const fd of fds) {
      const added = await vm.client.execute(
        'add-fd',
        { opaque: 'mapram', ...(id === undefined ? {} : { 'fdset-id': id }) },
        { descriptors: [fd] },
      );
      id = added['fdset-id'];
    }
  } catch (error) {
    await remove();
    throw error;
  }
  return { path: `/dev/fdset/${id}`, [Symbol.asyncDispose]: remove };
}
