/** Opens what is to be read, wherever it lies: a file, or a snapshot in a store. */
import { type OpenOptions, openSavedVm, openSource } from '../../analysis/open-saved-vm.js';
import type { SavedVm } from '../../analysis/saved-vm.js';
import { isStoreAddress, parseSnapshotAddress } from '../../store/open-place.js';
import type { StoredFile } from '../../store/snapshot-root.js';
import { Store } from '../../store/store.js';
import type { StoreUnlock } from '../../store/store-keys.js';
import { StoreSource } from '../../store/store-source.js';
import { unlockFromEnvironment } from './unlock.js';

/**
 * Of a snapshot in a store only what is looked at is fetched. A plain stream, or a compressed one, is read from start to end.
 *
 * @param from the path of a file, or `PLACE/NAME[@ID]`
 * @param unlock by default what the environment names
 * @throws MapramError as `openSavedVm`; `KEY` where the store is encrypted and `unlock` does not open it
 */
export async function openSaved(
  from: string,
  options: OpenOptions = {},
  unlock: StoreUnlock = unlockFromEnvironment(),
): Promise<SavedVm> {
  if (!isStoreAddress(from)) return await openSavedVm(from, options);
  return await openSource(await openStored(from, unlock, options.signal), options);
}

/** The saved VM of a snapshot as bytes that can be read at any place. */
export async function openStored(
  from: string,
  unlock?: StoreUnlock,
  signal?: AbortSignal,
): Promise<StoreSource> {
  const { place, ...which } = parseSnapshotAddress(from);
  const store = await Store.open(place, unlock);
  const root = await store.root(which);
  const state = root.files.find(({ role }) => role === 'state') as StoredFile;
  return new StoreSource(state, store.reader(root, signal));
}
