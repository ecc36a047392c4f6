/** Opens what is to be read, wherever it lies: a file, or a snapshot in a store. */
import * as v from 'valibot';
import { type OpenOptions, openSavedVm as openFile, openSource } from '../../analysis/open-saved-vm.js';
import type { SavedVm } from '../../analysis/saved-vm.js';
import { assertArguments, assertOptions, optionsOf, path, signal } from '../../checked-options.js';
import { isStoreAddress, parseSnapshotAddress } from '../../store/open-place.js';
import type { StoredFile } from '../../store/snapshot-root.js';
import { Store } from '../../store/store.js';
import type { StoreUnlock } from '../../store/store-keys.js';
import { StoreSource } from '../../store/store-source.js';
import { runOperation } from '../files/operation.js';
import { offset, onProgress, unlock as unlockOption } from '../files/option-kinds.js';
import { unlockFromEnvironment } from './unlock.js';

export interface OpenSavedVmOptions extends OpenOptions {
  /** Opens an encrypted store; by default what the environment names. */
  readonly unlock?: StoreUnlock | undefined;
}

const OpenSavedVmOptionsSchema = optionsOf<OpenSavedVmOptions>({
  offset,
  signal,
  onProgress,
  unlock: unlockOption,
});

/**
 * Opens a saved VM of any form: a mapped-ram file or a plain stream, bare or in a libvirt image, compressed or not, or such a file in a
 * store, of which only what is looked at is fetched. A plain stream, or a compressed one, is read from start to end.
 *
 * @param file a path, or `PLACE/NAME[@ID]`
 * @throws MapramError `FORMAT` saying what the file is instead or that nothing of it can be read, `UNSUPPORTED` for a compression that
 *   cannot be undone here, `KEY` where a store is encrypted and `unlock` does not open it, `IO`, `CANCELLED`
 */
export async function openSavedVm(file: string, options: OpenSavedVmOptions = {}): Promise<SavedVm> {
  assertArguments<{ file: string }>('openSavedVm', { file: path }, { file });
  assertOptions('openSavedVm', OpenSavedVmOptionsSchema, options);
  return runOperation(`opening ${file}`, file, options, async (guarded) => {
    guarded.signal?.throwIfAborted();
    return await openSaved(file, guarded, options.unlock);
  });
}

/** The same inside of an operation. */
export async function openSaved(
  from: string,
  { offset, signal, onProgress }: OpenOptions = {},
  unlock: StoreUnlock = unlockFromEnvironment(),
): Promise<SavedVm> {
  const options = { offset, signal, onProgress };
  if (!isStoreAddress(from)) return await openFile(from, options);
  return await openSource(await openStored(from, unlock, signal), options);
}

export const savedOption = v.custom<string | SavedVm>(
  (value) =>
    (typeof value === 'string' && value !== '') ||
    (typeof value === 'object' && value !== null && typeof (value as SavedVm).readPages === 'function'),
  'the path of a saved VM, or what openSavedVm returns',
);

/** Opens what is not open yet, and closes it later: one that a caller has opened stays open. */
export async function openOperand(
  file: string | SavedVm,
  options: OpenOptions,
): Promise<AsyncDisposable & { readonly saved: SavedVm }> {
  if (typeof file !== 'string') return { saved: file, [Symbol.asyncDispose]: async () => {} };
  const saved = await openSaved(file, options);
  return { saved, [Symbol.asyncDispose]: () => saved.close() };
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
