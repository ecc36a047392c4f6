import { defined } from '../../defined.js';
import { QmpError } from '../../qmp/qmp-error.js';
import type { QemuVm } from './qemu-vm.js';

/** A set of descriptors inside QEMU, until disposed. */
export interface LentFdset extends AsyncDisposable {
  /** `/dev/fdset/N`, of which QEMU picks the member whose access mode and O_DIRECT bit are those it wants; or the path of the file. */
  path: string;
}

/**
 * Lends QEMU the descriptors `fds` of the file at `path`; where none can be passed, over TCP or through a relay, QEMU is to open the
 * path itself.
 */
export async function lendFile(vm: QemuVm, path: string, fds: readonly number[]): Promise<LentFdset> {
  const byPath: LentFdset = { path, [Symbol.asyncDispose]: async () => {} };
  if (!vm.client.canPassDescriptors) return byPath;
  try {
    return await lendFdset(vm, fds);
  } catch (error) {
    if (error instanceof QmpError && vm.peerPid() === undefined) return byPath;
    throw error;
  }
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
        { opaque: 'mapram', ...defined({ 'fdset-id': id }) },
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
