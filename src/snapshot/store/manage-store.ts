/** What is done to a store as a whole, by its address: what `mapram store init`, `verify`, `remove` and `prune` do. */
import * as v from 'valibot';
import { assertOptions, flag, optionsOf, signal, text, wholeNumber } from '../../checked-options.js';
import { MapramError } from '../../errors.js';
import { parseSnapshotAddress } from '../../store/open-place.js';
import { type PruneOptions, type PruneResult, prune, removeSnapshot } from '../../store/prune.js';
import { Store } from '../../store/store.js';
import type { StoreEncryption, StoreUnlock } from '../../store/store-keys.js';
import {
  type VerifiedSnapshot,
  type VerifySnapshotOptions,
  verifySnapshot,
} from '../../store/verify-snapshot.js';
import type { Milliseconds } from '../../units.js';
import { runOperation } from '../files/operation.js';
import { encryption as encryptionOption, onProgress, unlock } from '../files/option-kinds.js';

export interface InitStoreOptions {
  /** `dir:PATH`, `s3://BUCKET/PREFIX` or `oci://HOST/REPOSITORY`. */
  readonly place: string;
  /** For whom it is encrypted; by default it is not. */
  readonly encryption?: StoreEncryption | undefined;
}

const InitStoreOptionsSchema = optionsOf<InitStoreOptions>({ place: text, encryption: encryptionOption });

export interface InitializedStore {
  readonly place: string;
  /** Identity of the store, a UUID. */
  readonly store: string;
  readonly encrypted: boolean;
}

/** @throws MapramError `EXISTS` where there is a store already, `USAGE`, `IO` */
export async function initStore(options: InitStoreOptions): Promise<InitializedStore> {
  assertOptions('initStore', InitStoreOptionsSchema, options);
  const { place, encryption } = options;
  const store = await Store.init(place, encryption);
  return { place: store.address, store: store.config.store, encrypted: store.isEncrypted };
}

const SHARE = 'a number from 0 to 1';

export interface VerifyStoredOptions extends VerifySnapshotOptions {
  /** `PLACE/NAME` or `PLACE/NAME@ID`. */
  readonly snapshot: string;
  readonly unlock?: StoreUnlock | undefined;
}

const VerifyStoredOptionsSchema = optionsOf<VerifyStoredOptions>({
  snapshot: text,
  unlock,
  sample: v.optional(v.pipe(v.number(SHARE), v.minValue(0, SHARE), v.maxValue(1, SHARE))),
  signal,
  onProgress,
});

export interface VerifyStoredResult extends VerifiedSnapshot {
  /** `PLACE/NAME@ID`. */
  readonly address: string;
  readonly totalTimeMs: Milliseconds;
}

/**
 * Damage is in the result, not thrown.
 *
 * @throws MapramError `IO` where there is no such snapshot or the place cannot be reached, `KEY`, `FORMAT` for a root that cannot be
 *   read, `CANCELLED`
 */
export async function verifyStored(options: VerifyStoredOptions): Promise<VerifyStoredResult> {
  assertOptions('verifyStored', VerifyStoredOptionsSchema, options);
  const startedAt = performance.now();
  const { snapshot } = options;
  return runOperation(`verifying ${snapshot}`, snapshot, options, async (guarded) => {
    const { place, ...which } = parseSnapshotAddress(snapshot);
    const store = await Store.open(place, guarded.unlock);
    const result = await verifySnapshot(store, which, guarded);
    const totalTimeMs = Math.round(performance.now() - startedAt);
    return { address: store.called(result), ...result, totalTimeMs };
  });
}

export interface RemoveStoredOptions {
  /** `PLACE/NAME@ID`. */
  readonly snapshot: string;
}

/**
 * Removes one snapshot; the space that it took is freed by `pruneStore`.
 *
 * @throws MapramError `USAGE` without an ID, `IO` where there is no such snapshot
 */
export async function removeStored(options: RemoveStoredOptions): Promise<{ removed: string }> {
  assertOptions('removeStored', optionsOf<RemoveStoredOptions>({ snapshot: text }), options);
  const { snapshot } = options;
  const { place, name, id } = parseSnapshotAddress(snapshot);
  if (id === undefined) {
    throw new MapramError(
      'USAGE',
      `removing ${snapshot}: say which one, as ${snapshot}@ID; \`mapram store list ${place}\` shows the IDs`,
    );
  }
  const store = await Store.open(place);
  await removeSnapshot(store, { name, id });
  return { removed: store.called({ name, id }) };
}

export interface PruneStoreOptions extends PruneOptions {
  readonly place: string;
  readonly unlock?: StoreUnlock | undefined;
}

const kept = v.optional(wholeNumber(0));

const PruneStoreOptionsSchema = optionsOf<PruneStoreOptions>({
  place: text,
  unlock,
  dryRun: flag,
  keepLast: kept,
  keepHourly: kept,
  keepDaily: kept,
  keepWeekly: kept,
  keepMonthly: kept,
  keepYearly: kept,
});

/**
 * Without anything to keep no snapshot is removed: only the space of those that were removed before is freed.
 *
 * @throws MapramError `FORMAT` when a root or a claim cannot be read: nothing but the superseded roots is then removed, since it is
 *   not known what is needed; `IO`, `KEY`
 */
export async function pruneStore(options: PruneStoreOptions): Promise<PruneResult> {
  assertOptions('pruneStore', PruneStoreOptionsSchema, options);
  return await prune(await Store.open(options.place, options.unlock), options);
}
