/** What is in a store: what `mapram store list` does. */
import { assertOptions, optionsOf, text } from '../../checked-options.js';
import { defined } from '../../defined.js';
import { errorReason } from '../../errors.js';
import { readManifest } from '../../manifest/check-manifest.js';
import { PARALLEL_REQUESTS, timeOfId } from '../../store/format.js';
import { mapParallel } from '../../store/parallel.js';
import type { RawRoot } from '../../store/snapshot-root.js';
import { Store } from '../../store/store.js';
import type { StoreUnlock } from '../../store/store-keys.js';
import type { Bytes } from '../../units.js';
import { unlock } from '../files/option-kinds.js';

export interface ListSnapshotsOptions {
  /** `dir:PATH`, `s3://BUCKET/PREFIX` or `oci://HOST/REPOSITORY`. */
  readonly place: string;
  readonly unlock?: StoreUnlock | undefined;
}

export interface ListedSnapshot {
  readonly name: string;
  readonly id: string;
  /** ISO 8601, UTC. */
  readonly pushedAt: string;
  /** Of its files, in bytes: their lengths, and what of them is not zero. */
  readonly fileBytes: Bytes;
  readonly dataBytes: Bytes;
  /** Of the packs that it needs, which it may share with others. */
  readonly packBytes: Bytes;
  /** What follows is known only where the store is not encrypted, or its key is there. */
  readonly parent?: string;
  readonly files?: readonly { readonly role: string; readonly name: string; readonly bytes: Bytes }[];
  /** From the manifest of the saved VM, where it has one. */
  readonly machine?: string;
  readonly savedAt?: string;
}

export interface StoreListing {
  readonly place: string;
  readonly store: string;
  readonly encrypted: boolean;
  /** By name, the oldest of each first. */
  readonly snapshots: readonly ListedSnapshot[];
  /** Roots that cannot be read. */
  readonly problems: readonly string[];
}

/** @throws MapramError `IO`, `KEY` for a wrong key, `FORMAT` for a damaged store.json */
export async function listSnapshots(options: ListSnapshotsOptions): Promise<StoreListing> {
  assertOptions('listSnapshots', optionsOf<ListSnapshotsOptions>({ place: text, unlock }), options);
  const store = await Store.open(options.place, options.unlock);
  const problems: string[] = [];
  const found = await mapParallel(await store.snapshots(), PARALLEL_REQUESTS, async (one) => {
    try {
      const raw = await store.rawRoot(one);
      return raw && listed(store, raw);
    } catch (error) {
      problems.push(errorReason(error));
      return undefined;
    }
  });
  return {
    place: store.address,
    store: store.config.store,
    encrypted: store.isEncrypted,
    snapshots: found.filter((one) => one !== undefined),
    problems,
  };
}

function listed(store: Store, raw: RawRoot): ListedSnapshot {
  const { name, id, fileBytes, dataBytes, packs } = raw.open;
  const packBytes = packs.reduce((sum, { bytes }) => sum + bytes, 0);
  const open = { name, id, pushedAt: new Date(timeOfId(id)).toISOString(), fileBytes, dataBytes, packBytes };
  if (!store.isUnlocked) return open;
  const { parent, files, manifest } = store.unseal(raw);
  const known = readManifest(JSON.stringify(manifest ?? null));
  return {
    ...open,
    ...defined({ parent }),
    files: files.map((file) => ({ role: file.role, name: file.name, bytes: file.bytes })),
    ...('problem' in known ? {} : { machine: known.machine, savedAt: known.createdAt }),
  };
}
