/** Removes snapshots that are no longer wanted, and the packs that nothing needs. push-claim.ts says why no push is hurt by it. */

import { MapramError } from '../errors.js';
import type { Bytes, Count } from '../units.js';
import { PACK_KEY, PARALLEL_REQUESTS, packKey, rootKey } from './format.js';
import { PACK_HEAD_BYTES, PACK_MAGIC } from './pack-writer.js';
import { mapParallel } from './parallel.js';
import { type ListedObject, PART_KEY, type Place } from './place.js';
import { announcePrune, type HeldClaims, readClaims } from './push-claim.js';
import { type Retention, superseded } from './retention.js';
import type { SnapshotVersion, Store } from './store.js';

/** A push that has written nothing for so long was given up: what it has uploaded may go. */
const CLAIM_EXPIRY_MS = 7 * 86_400_000;

export interface PruneOptions extends Retention {
  /** Removes nothing, and tells what would be removed. */
  readonly dryRun?: boolean | undefined;
}

export interface PruneResult {
  readonly dryRun: boolean;
  /** NAME@ID of each snapshot that was removed. */
  readonly removed: readonly string[];
  readonly kept: Count;
  readonly removedPacks: Count;
  readonly freedBytes: Bytes;
  /** Whether the place frees packs by itself, as a registry does: nothing is then known of them. */
  readonly byPlace: boolean;
  /** Packs that are left, and their bytes. */
  readonly keptPacks: Count;
  readonly keptBytes: Bytes;
}

/**
 * @throws MapramError `FORMAT` when a root or a claim cannot be read: nothing but the superseded roots is then removed, since it is
 *   not known what is needed; `IO`
 */
export async function prune(store: Store, options: PruneOptions = {}): Promise<PruneResult> {
  const { place } = store;
  const dryRun = options.dryRun === true;
  await using _ = dryRun || place.freesPacks ? undefined : await announcePrune(place);
  const snapshots = await store.snapshots();
  const gone = superseded(snapshots, options);
  if (!dryRun) await mapParallel(gone, PARALLEL_REQUESTS, (one) => place.remove(rootKey(one.name, one.id)));
  const result = {
    dryRun,
    removed: gone.map(({ name, id }) => `${name}@${id}`),
    kept: snapshots.length - gone.length,
    byPlace: place.freesPacks,
  };
  if (place.freesPacks) return { ...result, removedPacks: 0, freedBytes: 0, keptPacks: 0, keptBytes: 0 };
  const packs = (await place.list('packs/')).filter(({ key }) => PACK_KEY.test(key));
  const unneeded = await unneededPacks(store, packs, gone, dryRun);
  const leftOver = (await place.list('')).filter(isLeftOver);
  if (!dryRun)
    await mapParallel([...unneeded, ...leftOver], PARALLEL_REQUESTS, ({ key }) => place.remove(key));
  const freedBytes = sum(unneeded);
  return {
    ...result,
    removedPacks: unneeded.length,
    freedBytes,
    keptPacks: packs.length - unneeded.length,
    keptBytes: sum(packs) - freedBytes,
  };
}

/** What a push that was killed was just writing. */
function isLeftOver({ key, modifiedAt }: ListedObject): boolean {
  return PART_KEY.test(key) && modifiedAt !== undefined && Date.now() - modifiedAt > CLAIM_EXPIRY_MS;
}

async function unneededPacks(
  store: Store,
  packs: readonly ListedObject[],
  gone: readonly SnapshotVersion[],
  dryRun: boolean,
): Promise<ListedObject[]> {
  // In this order: a push that ends in between has its root by the time its claim is gone.
  const claims = await readClaims(store.place, CLAIM_EXPIRY_MS, dryRun);
  const removed = new Set(gone.map(({ name, id }) => `${name}@${id}`));
  const needed = new Set<string>();
  for (const { open } of await store.rawRoots()) {
    // Of a dry run they are still there.
    if (removed.has(`${open.name}@${open.id}`)) continue;
    for (const { id } of open.packs) needed.add(packKey(id));
  }
  for (const id of claims.packs) needed.add(packKey(id));
  const candidates = packs.filter(({ key }) => !needed.has(key));
  const free = await mapParallel(candidates, PARALLEL_REQUESTS, ({ key }) =>
    isFree(store.place, key, claims),
  );
  return candidates.filter((_, index) => free[index]);
}

/** Whether no push that is under way has made the pack. */
async function isFree(place: Place, key: string, { pushes }: HeldClaims): Promise<boolean> {
  if (pushes.size === 0) return true;
  const head = await place.get(key, { range: { offset: 0, length: PACK_HEAD_BYTES } });
  if (head === undefined || head.toString('latin1', 0, PACK_MAGIC.length) !== PACK_MAGIC) return true;
  return !pushes.has(head.toString('hex', 8, 24));
}

/** @throws MapramError `IO` where there is no such snapshot */
export async function removeSnapshot(store: Store, { name, id }: SnapshotVersion): Promise<void> {
  const key = rootKey(name, id);
  if ((await store.place.size(key)) === undefined) {
    const path = store.called({ name, id });
    throw new MapramError('IO', `removing ${path}: there is no such snapshot`, { path });
  }
  await store.place.remove(key);
}

const sum = (objects: readonly ListedObject[]): number =>
  objects.reduce((total, { bytes }) => total + bytes, 0);
