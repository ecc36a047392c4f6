/** Saves a VM into a store: into a file of this host first, where nothing but the disk makes the VM wait, and from there. */
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import path from 'node:path';
import { assertOptions, optionsOf, text } from '../../checked-options.js';
import { errorReason, MapramError } from '../../errors.js';
import { parseSnapshotAddress } from '../../store/open-place.js';
import { Store } from '../../store/store.js';
import type { StoreUnlock } from '../../store/store-keys.js';
import { runOperation } from '../files/operation.js';
import { unlock as unlockOption } from '../files/option-kinds.js';
import { type SaveResult, save } from '../save/save.js';
import { type SaveOptions, saveEntries } from '../save/save-options.js';
import { cacheDirectory } from './local-copy.js';
import { type PushResult, pushSnapshot } from './push-snapshot.js';

export interface SaveToStoreOptions extends Omit<SaveOptions, 'file' | 'force'> {
  /** `PLACE/NAME`. */
  to: string;
  /** Opens an encrypted store. */
  unlock?: StoreUnlock | undefined;
}

const SaveToStoreOptionsSchema = optionsOf<SaveToStoreOptions>({
  ...saveEntries,
  to: text,
  unlock: unlockOption,
});

/** As of `save`, `file` being `PLACE/NAME@ID`, and of the push. */
export interface SaveToStoreResult extends SaveResult {
  pushed: PushResult;
}

/**
 * @throws MapramError as `save` and `pushSnapshot` do. Where the save has succeeded and the push has not, the saved file is kept, and the
 *   error says where
 */
export async function saveToStore(options: SaveToStoreOptions): Promise<SaveToStoreResult> {
  assertOptions('saveToStore', SaveToStoreOptionsSchema, options);
  return runOperation(`saving to ${options.to}`, options.to, options, saveAndPush);
}

async function saveAndPush({ to, unlock, ...options }: SaveToStoreOptions): Promise<SaveToStoreResult> {
  const { place, name } = parseSnapshotAddress(to);
  // Before the VM is touched: a store that is not there, or does not open.
  (await Store.open(place, unlock)).codec();
  const parts = path.join(cacheDirectory(), 'saves');
  mkdirSync(parts, { recursive: true, mode: 0o700 });
  const folder = mkdtempSync(path.join(parts, `${name}-`));
  const file = path.join(folder, `${name}.mapram`);
  let saved: SaveResult;
  try {
    saved = await save({ ...options, file });
  } catch (error) {
    rmSync(folder, { recursive: true, force: true });
    throw error;
  }
  const pushed = await pushSaved(file, { to, unlock, ...options });
  rmSync(folder, { recursive: true, force: true });
  return { ...saved, file: pushed.address, pushed };
}

async function pushSaved(
  file: string,
  { to, unlock, signal, onProgress }: Pick<SaveToStoreOptions, 'to' | 'unlock' | 'signal' | 'onProgress'>,
): Promise<PushResult> {
  try {
    return await pushSnapshot({ file, to, unlock, signal, onProgress });
  } catch (error) {
    const { code, message } =
      error instanceof MapramError ? error : { code: 'CANCELLED' as const, message: errorReason(error) };
    if (!(error instanceof MapramError) && signal?.aborted !== true) throw error;
    throw new MapramError(
      code,
      `${message}; the VM is saved in ${file}: push that with \`mapram store push ${file} ${to}\`, or remove it`,
      { path: file, cause: error },
    );
  }
}
