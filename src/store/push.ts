/** Puts files into a store as one snapshot. */

import { createHash } from 'node:crypto';
import { constants, fstatSync } from 'node:fs';
import path from 'node:path';
import { defined } from '../defined.js';
import { errorReason, MapramError } from '../errors.js';
import { closeFile, openFile } from '../io/file/open-file.js';
import type { OperationOptions, ProgressEvent } from '../progress.js';
import { ProgressMeter } from '../progress-meter.js';
import type { Bytes } from '../units.js';
import { ChunkJobError, ChunkThreads } from './chunk-threads.js';
import { isFileName, MAXIMUM_FILE_BYTES, MAXIMUM_FILES, MAXIMUM_ROOT_BYTES, rootKey } from './format.js';
import { PackUploads, PackWriter } from './pack-writer.js';
import { PageTable } from './page-table.js';
import { PushClaim } from './push-claim.js';
import { encodeRoot, type SnapshotRoot, type StoredFile } from './snapshot-root.js';
import type { Store } from './store.js';
import { type ChunkCounts, type StoredFileResult, storeFile } from './store-file.js';

export interface PushOptions extends OperationOptions {
  /** Path of the saved VM. */
  readonly file: string;
  /** Paths of what belongs to it: disks, of any format. Each is called by the last part of its path. */
  readonly disks?: readonly string[];
  readonly name: string;
  /** What it is compared with; by default the newest of its name. `none` stores everything. */
  readonly parent?: SnapshotRoot | 'none' | undefined;
  /** What mapram knows of the saved VM, kept in the root. */
  readonly manifest?: Readonly<Record<string, unknown>> | undefined;
  /** Whether a chunk of the saved VM need not be read, since it is as in the parent. */
  readonly isUnchanged?: ((chunk: number) => boolean) | undefined;
}

/** All in bytes. */
export interface PushedSnapshot {
  readonly name: string;
  readonly id: string;
  readonly parent?: string;
  /** Lengths of the files. */
  readonly fileBytes: Bytes;
  /** What of them is not zero. */
  readonly dataBytes: Bytes;
  /** What of that was there already: in the parent, or twice. */
  readonly sharedBytes: Bytes;
  /** What of that was not even read. */
  readonly unreadBytes: Bytes;
  /** What was written to the store: compressed chunks, nodes and the root. */
  readonly storedBytes: Bytes;
  /** What an earlier push, which was broken off, had written already. */
  readonly reusedBytes: Bytes;
}

/**
 * @throws MapramError `IO` for a file that cannot be read or a place that cannot be written, `BUSY` when a prune came in between,
 *   `USAGE`, `KEY`, `CANCELLED`. Nothing is then to be seen of the snapshot, and what was uploaded is used when it is pushed again
 */
export async function push(store: Store, options: PushOptions): Promise<PushedSnapshot> {
  store.codec();
  using files = OpenFiles.open(options);
  const parent =
    options.parent === 'none' ? undefined : (options.parent ?? (await newestOf(store, options.name)));
  const { place } = store;
  const claim = await PushClaim.make(place, options.name, parent, [
    store.config.store,
    options.name,
    parent && [parent.name, parent.id],
    ...files.all.map(({ identity }) => identity),
  ]);
  const progress = new PushProgress(files.allocated, options.onProgress);
  const uploads = new PackUploads({
    place,
    push: claim.push,
    signal: options.signal,
    onStored: (bytes, reused) => progress.stored(bytes, reused),
  });
  const results = await storeAll(store, files, parent, uploads, progress, options);
  files.assertUnchanged();
  await claim.assertHeld();
  const { id, rootBytes } = await publish(store, options, parent, results, uploads);
  await claim.release();
  const { shared, skipped, storedBytes, reusedBytes } = progress;
  return {
    name: options.name,
    id,
    ...defined({ parent: parent === undefined ? undefined : `${parent.name}@${parent.id}` }),
    fileBytes: results.reduce((sum, { file }) => sum + file.bytes, 0),
    dataBytes: results.reduce((sum, { file }) => sum + file.dataBytes, 0),
    sharedBytes: shared,
    unreadBytes: skipped,
    storedBytes: storedBytes + rootBytes,
    reusedBytes,
  };
}

async function newestOf(store: Store, name: string): Promise<SnapshotRoot | undefined> {
  const newest = await store.find({ name });
  return newest && (await store.root(newest));
}

async function storeAll(
  store: Store,
  files: OpenFiles,
  parent: SnapshotRoot | undefined,
  uploads: PackUploads,
  progress: PushProgress,
  { signal, isUnchanged }: PushOptions,
): Promise<StoredFileResult[]> {
  await using threads = new ChunkThreads(store.keys);
  const reader = parent && store.reader(parent, signal);
  const context = {
    codec: store.codec(),
    threads,
    chunks: new PackWriter(uploads),
    nodes: new PackWriter(uploads),
    known: new Map(),
    signal,
    onChunks: (counts: ChunkCounts) => progress.chunks(counts),
  };
  const results: StoredFileResult[] = [];
  try {
    for (const { role, name, path: file, fd, bytes } of files.all) {
      const before = counterpart(parent?.files ?? [], role, name);
      const table = before && reader && new PageTable(before, reader, NODES_AHEAD);
      const source = {
        role,
        name,
        fd,
        bytes,
        parent: table,
        ...defined({ isUnchanged: role === 'state' ? isUnchanged : undefined }),
      };
      results.push(await storeFile(source, context).catch((error) => rethrown(error, file)));
    }
    await uploads.finish();
    return results;
  } finally {
    await uploads.settle();
  }
}

/** Nodes of the parent that are fetched at once. */
const NODES_AHEAD = 16;

/** The saved VM is compared with the saved VM, a disk with the disk of the same name. */
function counterpart(files: readonly StoredFile[], role: string, name: string): StoredFile | undefined {
  return files.find((file) => file.role === role && (role === 'state' || file.name === name));
}

function rethrown(error: unknown, file: string): never {
  if (!(error instanceof ChunkJobError)) throw error;
  const { message, code, offset } = error;
  throw new MapramError(
    'IO',
    `reading ${file}: ${message}${offset === undefined ? '' : ` at offset ${offset}`}`,
    {
      path: file,
      ...defined({ offset }),
      cause: code === undefined ? error : Object.assign(new Error(message), { code }),
    },
  );
}

async function publish(
  store: Store,
  { name, manifest }: PushOptions,
  parent: SnapshotRoot | undefined,
  results: readonly StoredFileResult[],
  uploads: PackUploads,
): Promise<{ id: string; rootBytes: number }> {
  const lengths = new Map([
    ...(parent?.packs ?? []).map((pack) => [pack.id, pack.bytes] as const),
    ...uploads.stored,
  ]);
  const needed = new Set(results.flatMap(({ packs }) => [...packs]));
  const packs = [...needed].sort().map((id) => ({ id, bytes: lengths.get(id) as number }));
  const id = store.newId((await store.find({ name }))?.id);
  const root: SnapshotRoot = {
    store: store.config.store,
    name,
    id,
    packs,
    fileBytes: results.reduce((sum, { file }) => sum + file.bytes, 0),
    dataBytes: results.reduce((sum, { file }) => sum + file.dataBytes, 0),
    ...defined({ parent: parent === undefined ? undefined : `${parent.name}@${parent.id}` }),
    files: results.map(({ file }) => file),
    ...defined({ manifest }),
  };
  const bytes = encodeRoot(root, store.codec(), store.keys);
  if (bytes.length > MAXIMUM_ROOT_BYTES) {
    throw new MapramError(
      'UNSUPPORTED',
      `pushing to ${store.called({ name })}: its root would have ${bytes.length} bytes`,
    );
  }
  if (!(await store.place.create(rootKey(name, id), bytes, packs))) {
    throw new MapramError(
      'BUSY',
      `pushing to ${store.called({ name, id })}: there is one already; push again`,
    );
  }
  return { id, rootBytes: bytes.length };
}

interface OpenedFile {
  readonly role: StoredFile['role'];
  readonly name: string;
  readonly path: string;
  readonly fd: number;
  readonly bytes: number;
  /** Tells this state of this file from others. */
  readonly identity: string;
}

/** What is pushed, open, with what it was like at the beginning. */
class OpenFiles implements Disposable {
  readonly all: OpenedFile[] = [];

  static open({ file, disks = [] }: PushOptions): OpenFiles {
    if (disks.length >= MAXIMUM_FILES)
      throw new MapramError('USAGE', `pushing ${file}: a snapshot has at most ${MAXIMUM_FILES} files`);
    const files = new OpenFiles();
    try {
      files.#add(file, 'state');
      for (const disk of disks) files.#add(disk, 'disk');
      return files;
    } catch (error) {
      files[Symbol.dispose]();
      throw error;
    }
  }

  /** Bytes on the disk: about what there is to be read. */
  get allocated(): number {
    return this.all.reduce((sum, { fd, bytes }) => sum + Math.min(bytes, fstatSync(fd).blocks * 512), 0);
  }

  #add(file: string, role: StoredFile['role']): void {
    const base = path.basename(file);
    // A pull is told where the saved VM is to go, so it matters little what it is called.
    const name = role === 'state' && !isFileName(base) ? 'state' : base;
    const problem = this.all.some((other) => other.name === name)
      ? `two files are called ${name}`
      : isFileName(name)
        ? undefined
        : 'its name has other characters than letters, digits, ".", "_", "+" and "-", or is longer than 128';
    if (problem !== undefined) throw new MapramError('USAGE', `pushing ${file}: ${problem}`, { path: file });
    const fd = opened(file);
    this.all.push({ role, name, path: file, fd, bytes: 0, identity: '' });
    const status = fstatSync(fd);
    if (!status.isFile() || status.size > MAXIMUM_FILE_BYTES)
      throw new MapramError(
        'UNSUPPORTED',
        `pushing ${file}: it is no regular file, or has more than 64 TiB`,
        { path: file },
      );
    this.all[this.all.length - 1] = {
      role,
      name,
      path: file,
      fd,
      bytes: status.size,
      identity: identityOf(fd),
    };
  }

  /** @throws MapramError `BUSY` when one of the files was written to meanwhile */
  assertUnchanged(): void {
    const changed = this.all.find(({ fd, identity }) => identityOf(fd) !== identity);
    if (changed === undefined) return;
    throw new MapramError(
      'BUSY',
      `pushing ${changed.path}: it was written to meanwhile; stop what writes to it and push again`,
      { path: changed.path },
    );
  }

  [Symbol.dispose](): void {
    for (const { fd } of this.all) closeFile(fd);
  }
}

function opened(file: string): number {
  try {
    return openFile(file, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (cause) {
    throw new MapramError('IO', `opening ${file}: ${errorReason(cause)}`, { path: file, cause });
  }
}

function identityOf(fd: number): string {
  const { dev, ino, size, mtimeNs, ctimeNs } = fstatSync(fd, { bigint: true });
  return createHash('sha256').update([dev, ino, size, mtimeNs, ctimeNs].join()).digest('hex');
}

/** Counts what became of the bytes, and reports it. */
class PushProgress {
  done = 0;
  shared = 0;
  skipped = 0;
  storedBytes = 0;
  reusedBytes = 0;
  readonly #meter = new ProgressMeter();

  constructor(
    private readonly total: number,
    private readonly onProgress: ((event: ProgressEvent) => void) | undefined,
  ) {}

  chunks({ done, shared, skipped }: ChunkCounts): void {
    this.done += done;
    this.shared += shared;
    this.skipped += skipped;
    const counters = {
      bytes: Math.min(this.done, this.total),
      totalBytes: this.total,
      pages: 0,
      channels: [],
    };
    this.onProgress?.(this.#meter.report('push', counters));
  }

  stored(bytes: number, reused: boolean): void {
    if (reused) this.reusedBytes += bytes;
    else this.storedBytes += bytes;
  }
}
