/** Puts a saved VM into a store: what `mapram store push` does. */

import * as v from 'valibot';
import { assertOptions, optionsOf, path, signal, text } from '../../checked-options.js';
import { defined } from '../../defined.js';
import { MapramError } from '../../errors.js';
import { readManifest } from '../../manifest/check-manifest.js';
import { MappedRamImage } from '../../mapped-ram/image.js';
import type { OperationOptions } from '../../progress.js';
import { isStoreAddress, parseSnapshotAddress } from '../../store/open-place.js';
import { type PushedSnapshot, push } from '../../store/push.js';
import type { SnapshotRoot } from '../../store/snapshot-root.js';
import { Store } from '../../store/store.js';
import type { StoreUnlock } from '../../store/store-keys.js';
import type { Milliseconds } from '../../units.js';
import { runOperation } from '../files/operation.js';
import { onProgress, unlock } from '../files/option-kinds.js';
import { unchangedChunks } from './unchanged-chunks.js';

export interface PushSnapshotOptions extends OperationOptions {
  /** Path of a saved VM of any form. */
  readonly file: string;
  /** `PLACE/NAME`. */
  readonly to: string;
  /** Paths of disk images that belong to it. */
  readonly disks?: readonly string[] | undefined;
  /** `NAME` or `NAME@ID` in the same store, or `none`; by default the newest of its own name. */
  readonly parent?: string | undefined;
  /** Opens an encrypted store. */
  readonly unlock?: StoreUnlock | undefined;
}

const PushSnapshotOptionsSchema = optionsOf<PushSnapshotOptions>({
  file: path,
  to: text,
  disks: v.optional(v.array(path, 'an array of paths')),
  parent: v.optional(text),
  unlock,
  signal,
  onProgress,
});

export interface PushResult extends PushedSnapshot {
  /** `PLACE/NAME@ID`: what pulls exactly this. */
  readonly address: string;
  readonly totalTimeMs: Milliseconds;
}

/**
 * @throws MapramError `USAGE`, `IO`, `KEY`, `BUSY` when the file was written to meanwhile or a prune came in between, `CANCELLED`. Nothing is
 *   then to be seen in the store, and what was uploaded is not uploaded again
 */
export async function pushSnapshot(options: PushSnapshotOptions): Promise<PushResult> {
  assertOptions('pushSnapshot', PushSnapshotOptionsSchema, options);
  return runOperation(`pushing ${options.file}`, options.file, options, pushFile);
}

async function pushFile(options: PushSnapshotOptions): Promise<PushResult> {
  const startedAt = performance.now();
  const { file, to, disks = [], signal, onProgress } = options;
  const { place, name, id } = parseSnapshotAddress(to);
  if (id !== undefined)
    throw new MapramError(
      'USAGE',
      `pushing to ${to}: a new snapshot gets an ID of its own; leave out @${id}`,
    );
  const store = await Store.open(place, options.unlock);
  const parent = await findParent(store, name, options.parent);
  const known = await knownOf(file, store, parent);
  const pushed = await push(store, {
    file,
    disks,
    name,
    parent: parent ?? 'none',
    ...known,
    signal,
    onProgress,
  });
  const totalTimeMs = Math.round(performance.now() - startedAt);
  return { address: store.called({ name, id: pushed.id }), ...pushed, totalTimeMs };
}

async function findParent(
  store: Store,
  name: string,
  wanted: string | undefined,
): Promise<SnapshotRoot | undefined> {
  if (wanted === 'none') return undefined;
  if (wanted !== undefined) {
    const parent = parseSnapshotAddress(isStoreAddress(wanted) ? wanted : `${store.address}/${wanted}`);
    if (parent.place !== store.address) {
      throw new MapramError(
        'USAGE',
        `pushing to ${store.called({ name })}: its parent ${wanted} is in another store`,
      );
    }
    return await store.root(parent);
  }
  const newest = await store.find({ name });
  return newest && (await store.root(newest));
}

/** What can be told of the file beside its bytes. Any file can be pushed: one that is no saved VM has no manifest. */
async function knownOf(file: string, store: Store, parent: SnapshotRoot | undefined) {
  await using image = await openImage(file);
  if (image === undefined) return {};
  const manifest = readManifest(JSON.stringify(image.manifest ?? null));
  if ('problem' in manifest) return {};
  const isUnchanged = parent ? await unchangedChunks(image, store, parent) : undefined;
  return { manifest, ...defined({ isUnchanged }) };
}

async function openImage(file: string): Promise<MappedRamImage | undefined> {
  try {
    return await MappedRamImage.open(file);
  } catch (error) {
    if (error instanceof MapramError && (error.code === 'FORMAT' || error.code === 'UNSUPPORTED'))
      return undefined;
    throw error;
  }
}
