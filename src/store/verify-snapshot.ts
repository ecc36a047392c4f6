/** Whether a snapshot could be pulled: every node, every pack, and all chunks or some of them. */

import { errorReason, MapramError } from '../errors.js';
import type { Bytes, Count } from '../units.js';
import { PARALLEL_REQUESTS, packKey } from './format.js';
import { mapParallel } from './parallel.js';
import { ChunkFetcher, type FetchOptions } from './pull.js';
import type { SnapshotName, Store } from './store.js';

export interface VerifySnapshotOptions extends FetchOptions {
  /** Share of the chunks that is read, 0 to 1; all by default. Nodes and packs are looked at in any case. */
  readonly sample?: number | undefined;
}

export interface VerifiedSnapshot {
  readonly name: string;
  readonly id: string;
  readonly ok: boolean;
  readonly problems: readonly string[];
  /** Bytes of the files that were read and checked. */
  readonly checkedBytes: Bytes;
  /** Packs that are there with the right length. */
  readonly packs: Count;
}

/**
 * Damage is in the result, not thrown.
 *
 * @throws MapramError `IO` where there is no such snapshot or the place cannot be reached, `KEY`, `FORMAT` for a root that cannot be
 *   read
 */
export async function verifySnapshot(
  store: Store,
  which: SnapshotName,
  options: VerifySnapshotOptions = {},
): Promise<VerifiedSnapshot> {
  const root = await store.root(which);
  const { sample = 1 } = options;
  const problems: string[] = [];
  const sound = await mapParallel(root.packs, PARALLEL_REQUESTS, async ({ id, bytes }) => {
    const found = await store.place.size(packKey(id), options.signal);
    if (found === bytes) return true;
    problems.push(
      found === undefined ? `pack ${id} is missing` : `pack ${id} has ${found} bytes, not ${bytes}`,
    );
    return false;
  });
  const totalBytes = Math.round(root.files.reduce((sum, file) => sum + file.dataBytes, 0) * sample);
  await using fetcher = new ChunkFetcher(store, root, { ...options, phase: 'verify', totalBytes });
  for (const file of root.files) {
    try {
      await fetcher.fetch(file, -1, () => sample >= 1 || Math.random() < sample);
    } catch (error) {
      if (!(error instanceof MapramError) || error.code !== 'FORMAT') throw error;
      problems.push(errorReason(error));
    }
  }
  return {
    name: root.name,
    id: root.id,
    ok: problems.length === 0,
    problems,
    checkedBytes: fetcher.checkedBytes,
    packs: sound.filter(Boolean).length,
  };
}
