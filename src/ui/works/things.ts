/** What operations of the page work on, and what all of them have in common. */
import type { Directories } from '../directories.js';
import type { WorkContext } from '../operations.js';
import type { SavedList } from '../saved-list.js';
import type { VmList } from '../vm-list.js';

export interface Things {
  readonly vms: VmList;
  readonly saved: SavedList;
  readonly directories: Directories;
}

/** Does `work` while no other part of mapram connects to the VM. */
export async function withVm<T>(
  vms: VmList,
  vm: string,
  { id }: WorkContext,
  work: () => Promise<T>,
): Promise<T> {
  vms.claim(vm, id);
  try {
    await vms.idle(vm);
    return await work();
  } finally {
    await vms.release(vm);
  }
}

/** Where a file is, of the directories in the list. */
export function ofDirectory(directories: Directories, file: string): { directory?: string } {
  const directory = directories.of(file);
  return directory === undefined ? {} : { directory };
}

export function callbacks({ signal, onProgress, onWarning }: WorkContext) {
  return { signal, onProgress, onWarning };
}
