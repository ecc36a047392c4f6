/** Brings a snapshot out of a store as files: what `mapram store pull` does. */

import { mkdirSync } from 'node:fs';
import path from 'node:path';
import * as v from 'valibot';
import { assertOptions, path as filePath, flag, optionsOf, signal, text } from '../../checked-options.js';
import { MapramError } from '../../errors.js';
import { allocatedBytes, truncateFile } from '../../io/file/file-space.js';
import type { OperationOptions } from '../../progress.js';
import { parseSnapshotAddress } from '../../store/open-place.js';
import { ChunkFetcher } from '../../store/pull.js';
import type { SnapshotRoot, StoredFile } from '../../store/snapshot-root.js';
import { Store } from '../../store/store.js';
import type { StoreUnlock } from '../../store/store-keys.js';
import type { Bytes, Milliseconds } from '../../units.js';
import { withFileErrors } from '../files/file-errors.js';
import { runOperation } from '../files/operation.js';
import { onProgress, unlock } from '../files/option-kinds.js';
import { TargetFile } from '../files/target-file.js';

export interface PullSnapshotOptions extends OperationOptions {
  /** `PLACE/NAME` or `PLACE/NAME@ID`. */
  readonly from: string;
  /** Where the saved VM is to be written. */
  readonly file: string;
  /** Folder for its disks, made where there is none; by default they stay in the store. */
  readonly disks?: string | undefined;
  /** Replace existing files, when the new ones are complete. */
  readonly force?: boolean | undefined;
  readonly unlock?: StoreUnlock | undefined;
}

const PullSnapshotOptionsSchema = optionsOf<PullSnapshotOptions>({
  from: text,
  file: filePath,
  disks: v.optional(filePath),
  force: flag,
  unlock,
  signal,
  onProgress,
});

export interface PulledFile {
  readonly file: string;
  readonly role: StoredFile['role'];
  readonly fileBytes: Bytes;
  /** What it takes on the disk; holes take nothing. */
  readonly allocatedBytes: Bytes;
}

export interface PullResult {
  /** `PLACE/NAME@ID`. */
  readonly address: string;
  readonly name: string;
  readonly id: string;
  readonly files: readonly PulledFile[];
  /** Bytes that came from the store. */
  readonly fetchedBytes: Bytes;
  readonly totalTimeMs: Milliseconds;
}

/**
 * The files appear when all of them are complete and on the disk; each chunk was checked.
 *
 * @throws MapramError `EXISTS`, `FORMAT` for damage in the store, `IO`, `NO_SPACE`, `KEY`, `CANCELLED`; no half file is left
 */
export async function pullSnapshot(options: PullSnapshotOptions): Promise<PullResult> {
  assertOptions('pullSnapshot', PullSnapshotOptionsSchema, options);
  const { from } = options;
  return runOperation(`pulling ${from}`, options.file, options, async (guarded) => {
    const { place, ...which } = parseSnapshotAddress(from);
    const store = await Store.open(place, guarded.unlock);
    const root = await store.root(which);
    return await pullRoot(store, root, guarded);
  });
}

/** The same of a snapshot whose root is there. */
export async function pullRoot(
  store: Store,
  root: SnapshotRoot,
  options: Omit<PullSnapshotOptions, 'from' | 'unlock'>,
): Promise<PullResult> {
  const startedAt = performance.now();
  const address = store.called(root);
  const wanted = wantedFiles(root, options);
  return await withFileErrors(`pulling ${address}`, options.file, async () => {
    using targets = Targets.create(wanted, options.force === true);
    const totalBytes = wanted.reduce((sum, { stored }) => sum + stored.dataBytes, 0);
    await using fetcher = new ChunkFetcher(store, root, { ...options, phase: 'pull', totalBytes });
    for (const { stored, target } of targets.all) {
      truncateFile(target.fd, stored.bytes);
      await fetcher.fetch(stored, target.fd);
    }
    options.signal?.throwIfAborted();
    const files = await targets.publish();
    const { name, id } = root;
    const totalTimeMs = Math.round(performance.now() - startedAt);
    return { address, name, id, files, fetchedBytes: fetcher.fetchedBytes, totalTimeMs };
  });
}

interface WantedFile {
  readonly stored: StoredFile;
  readonly file: string;
}

/** The names of disks have been checked: they lead nowhere else. */
function wantedFiles(
  { files }: SnapshotRoot,
  { file, disks }: Pick<PullSnapshotOptions, 'file' | 'disks'>,
): WantedFile[] {
  const wanted = files.flatMap((stored) => {
    if (stored.role === 'state') return [{ stored, file }];
    return disks === undefined ? [] : [{ stored, file: path.join(disks, stored.name) }];
  });
  const paths = wanted.map((one) => path.resolve(one.file));
  if (new Set(paths).size < paths.length)
    throw new MapramError(
      'USAGE',
      `pulling to ${file}: one of its disks has the same name; choose another file or folder`,
    );
  if (disks !== undefined) mkdirSync(disks, { recursive: true });
  return wanted;
}

/** Files that get their names together, as far as that can be. */
class Targets implements Disposable {
  readonly all: { readonly stored: StoredFile; readonly file: string; readonly target: TargetFile }[] = [];

  static create(wanted: readonly WantedFile[], force: boolean): Targets {
    const targets = new Targets();
    try {
      for (const one of wanted) targets.all.push({ ...one, target: TargetFile.create(one.file, { force }) });
      return targets;
    } catch (error) {
      targets[Symbol.dispose]();
      throw error;
    }
  }

  /** Disks first: the saved VM that needs them comes last. */
  async publish(): Promise<PulledFile[]> {
    const files = this.all.map(({ stored, file, target }) => ({
      file,
      role: stored.role,
      fileBytes: stored.bytes,
      allocatedBytes: allocatedBytes(target.fd),
    }));
    for (const { target } of this.all.toReversed()) await target.publish();
    return files;
  }

  [Symbol.dispose](): void {
    for (const { target } of this.all) target.discard();
  }
}
