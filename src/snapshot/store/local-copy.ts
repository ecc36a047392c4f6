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
import { fuseProblem } from '../../io/file/fuse-mount.js';
import { closeFile, openFile } from '../../io/file/open-file.js';
import type { OperationOptions } from '../../progress.js';
import { isStoreAddress, parseSnapshotAddress } from '../../store/open-place.js';
import type { SnapshotRoot, StoredFile } from '../../store/snapshot-root.js';
import { Store } from '../../store/store.js';
import type { StoreUnlock } from '../../store/store-keys.js';
import { lazyFile } from '../lazy/start-lazy-server.js';
import { pullRoot } from './pull-snapshot.js';
import { unlockFromEnvironment } from './unlock.js';

export interface LocalCopyOptions extends OperationOptions {
  /** By default what the environment names. */
  readonly unlock?: StoreUnlock | undefined;
}

/** How VMs get their memory from a store. */
export interface LazyOptions {
  /**
   * `all`, the default: VMs start at once, and what they ask for is fetched before the rest, which follows in the background.
   * `on-demand`: nothing but what they ask for. `first`: the whole snapshot before a VM starts, as where FUSE is missing.
   */
  readonly fetch?: 'all' | 'on-demand' | 'first' | undefined;
  /** Bytes a second that are fetched in the background; by default as many as come. */
  readonly maxRate?: number | undefined;
  /** How long the store may be out of reach, in ms, before VMs that wait for it are ended; by default five minutes. */
  readonly offlineTimeoutMs?: number | undefined;
}

export interface LazyCopyOptions extends LocalCopyOptions, LazyOptions {
  readonly onWarning?: ((message: string) => void) | undefined;
}

const OFFLINE_TIMEOUT_MS = 5 * 60_000;

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
  return await inCache(await find(from, options), options, (found) => pullInto(found, options));
}

/**
 * As `localCopy`, for VMs that are to start before all of it has arrived: a file that is fetched while it is read.
 *
 * @throws MapramError as `localCopy`
 */
export async function lazyCopy(from: string, options: LazyCopyOptions = {}): Promise<string> {
  if (!isStoreAddress(from)) return from;
  const { fetch = 'all', maxRate, offlineTimeoutMs = OFFLINE_TIMEOUT_MS } = options;
  const problem = fetch === 'first' ? undefined : fuseProblem();
  if (problem !== undefined) options.onWarning?.(`${from} is fetched before a VM starts from it: ${problem}`);
  if (fetch === 'first' || problem !== undefined) return await localCopy(from, options);
  const found = await find(from, options);
  const { store, root, folder, unlock } = found;
  return await inCache(found, options, async () => {
    const { name, id } = root;
    const place = store.address;
    const config = { place, name, id, unlock, folder, fetch, offlineTimeoutMs, ...defined({ maxRate }) };
    return await lazyFile(config, root.files[0] as StoredFile);
  });
}

interface FoundSnapshot {
  readonly store: Store;
  readonly root: SnapshotRoot;
  readonly unlock: StoreUnlock;
  /** Of its files in the cache, once they are complete. */
  readonly folder: string;
}

async function find(from: string, options: LocalCopyOptions): Promise<FoundSnapshot> {
  const { place, ...which } = parseSnapshotAddress(from);
  const unlock = options.unlock ?? unlockFromEnvironment();
  const store = await Store.open(place, unlock);
  const root = await store.root(which);
  const folder = path.join(cacheDirectory(), root.store, `${root.name}@${root.id}`);
  return { store, root, unlock, folder };
}

/** The file in the cache, or what `otherwise` makes while no other process does. */
async function inCache(
  found: FoundSnapshot,
  { signal }: LocalCopyOptions,
  otherwise: (found: FoundSnapshot) => Promise<string>,
): Promise<string> {
  const { folder, root } = found;
  const file = path.join(folder, (root.files[0] as StoredFile).name);
  if (existsSync(file)) return file;
  mkdirSync(path.dirname(folder), { recursive: true, mode: 0o700 });
  using _ = await lockFor(folder, signal);
  return existsSync(file) ? file : await otherwise(found);
}

/** The folder appears when all of it is there. */
async function pullInto(
  { folder, store, root }: FoundSnapshot,
  { signal, onProgress }: LocalCopyOptions,
): Promise<string> {
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
    return path.join(folder, path.basename(file));
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
