/**
 * The file behind what is to be loaded or mapped: a path as it is, a snapshot in a store as a copy in the cache of this host. A copy is
 * pulled once, and is there for whoever wants it afterwards.
 *
 * ```text
 * $XDG_CACHE_HOME/mapram/STORE/NAME@ID/FILE      FILE as it was pushed; STORE is the identity of the store
 * $XDG_CACHE_HOME/mapram/STORE/NAME@ID/disks/    its disks
 * ```
 */

import { constants, existsSync, mkdirSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { defined } from '../../defined.js';
import { tryLock } from '../../io/file/file-lock.js';
import { renameFile } from '../../io/file/file-names.js';
import { syncDirectoryOf } from '../../io/file/file-sync.js';
import { closeFile, openFile } from '../../io/file/open-file.js';
import type { OperationOptions } from '../../progress.js';
import { isStoreAddress, parseSnapshotAddress } from '../../store/open-place.js';
import type { SnapshotRoot, StoredFile } from '../../store/snapshot-root.js';
import { Store } from '../../store/store.js';
import type { StoreUnlock } from '../../store/store-keys.js';
import { pullRoot } from './pull-snapshot.js';
import { unlockFromEnvironment } from './unlock.js';

export interface LocalCopyOptions extends OperationOptions {
  /** By default what the environment names. */
  readonly unlock?: StoreUnlock | undefined;
}

/** Between two looks whether another process has finished its copy. */
const LOOK_MS = 200;

/** Where copies are kept; only this user may enter it. */
export function cacheDirectory(env: Readonly<Record<string, string | undefined>> = process.env): string {
  const base = env.XDG_CACHE_HOME;
  return path.join(
    base !== undefined && path.isAbsolute(base) ? base : path.join(homedir(), '.cache'),
    'mapram',
  );
}

/**
 * @param from the path of a file, or `PLACE/NAME[@ID]`
 * @returns the path of a file
 * @throws MapramError `IO`, `NO_SPACE`, `KEY`, `FORMAT` for damage in the store, `CANCELLED`
 */
export async function localCopy(from: string, options: LocalCopyOptions = {}): Promise<string> {
  if (!isStoreAddress(from)) return from;
  const { place, ...which } = parseSnapshotAddress(from);
  const store = await Store.open(place, options.unlock ?? unlockFromEnvironment());
  const root = await store.root(which);
  const folder = path.join(cacheDirectory(), root.store, `${root.name}@${root.id}`);
  const file = path.join(folder, (root.files[0] as StoredFile).name);
  if (existsSync(file)) return file;
  mkdirSync(path.dirname(folder), { recursive: true, mode: 0o700 });
  using _ = await lockFor(folder, options.signal);
  if (!existsSync(file)) await pullInto(folder, store, root, options);
  return file;
}

/** The folder appears when all of it is there. */
async function pullInto(
  folder: string,
  store: Store,
  root: SnapshotRoot,
  { signal, onProgress }: LocalCopyOptions,
): Promise<void> {
  const part = `${folder}.part`;
  // What a process that was killed has left; whoever is alive holds the lock.
  rmSync(part, { recursive: true, force: true });
  mkdirSync(part, { mode: 0o700 });
  try {
    const file = path.join(part, (root.files[0] as StoredFile).name);
    const disks = root.files.length > 1 ? path.join(part, 'disks') : undefined;
    await pullRoot(store, root, { file, disks, signal, onProgress });
    renameFile(part, folder);
    await syncDirectoryOf(folder);
  } catch (error) {
    rmSync(part, { recursive: true, force: true });
    throw error;
  }
}

/** One process pulls, others wait for it. */
async function lockFor(folder: string, signal: AbortSignal | undefined): Promise<Disposable> {
  const fd = openFile(`${folder}.lock`, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW);
  try {
    while (!tryLock(fd, 'exclusive')) await sleep(LOOK_MS, undefined, defined({ signal }));
    return { [Symbol.dispose]: () => closeFile(fd) };
  } catch (error) {
    closeFile(fd);
    throw error;
  }
}
