/** Brings a file of a snapshot back, or checks that it could be. */

import { errorReason, MapramError } from '../errors.js';
import type { OperationOptions } from '../progress.js';
import { ProgressMeter } from '../progress-meter.js';
import { ChunkJobError, ChunkThreads } from './chunk-threads.js';
import { CHUNK_BYTES, chunkLength, damaged, NODE_ENTRIES, PARALLEL_REQUESTS } from './format.js';
import { type FrameReader, type PackRun, packRuns } from './frame-reader.js';
import type { FrameReference } from './page-node.js';
import { PageTable } from './page-table.js';
import { mapParallel, Parallel } from './parallel.js';
import type { SnapshotRoot, StoredFile } from './snapshot-root.js';
import type { Store } from './store.js';

export interface FetchOptions extends OperationOptions {}

/** Chunks of files, fetched and checked by all threads. */
export class ChunkFetcher implements AsyncDisposable {
  readonly #threads: ChunkThreads;
  readonly #reader: FrameReader;
  readonly #meter = new ProgressMeter();
  #done = 0;
  #packBytes = 0;

  constructor(
    store: Store,
    root: SnapshotRoot,
    private readonly options: FetchOptions & { readonly phase: string; readonly totalBytes: number },
  ) {
    this.#reader = store.reader(root, options.signal);
    this.#threads = new ChunkThreads(store.keys);
  }

  /** Bytes that came from the store, nodes not counted. */
  get fetchedBytes(): number {
    return this.#packBytes;
  }

  /** Bytes of files that were checked. */
  get checkedBytes(): number {
    return this.#done;
  }

  /**
   * Writes the chunks of a file; what is zero is left out, so `fd` must be a file of holes.
   *
   * @param fd -1 to check them only
   * @param isWanted chooses among them; all by default
   * @throws MapramError `FORMAT` for damage, naming the place in the file; `IO`, `NO_SPACE`
   */
  async fetch(file: StoredFile, fd: number, isWanted: () => boolean = () => true): Promise<void> {
    const parallel = new Parallel(PARALLEL_REQUESTS);
    try {
      for await (const [number, leaf] of this.table(file).leaves()) {
        const wanted = [...leaf.entries()]
          .filter(() => isWanted())
          .map(([index, reference]) => ({ reference, of: number * NODE_ENTRIES + index }));
        assertInside(file, wanted.at(-1)?.of, this.#reader.where);
        for (const run of packRuns(wanted)) await parallel.start(() => this.#run(file, fd, run));
      }
      await parallel.finish();
    } finally {
      await parallel.settle();
    }
  }

  /** The page table over a file, read as far as it is needed. */
  table(file: StoredFile): PageTable {
    return new PageTable(file, this.#reader);
  }

  /** Writes these chunks of a file. @throws as `fetch` */
  async fetchChunks(
    file: StoredFile,
    fd: number,
    wanted: readonly { reference: FrameReference; of: number }[],
  ): Promise<void> {
    assertInside(file, wanted.at(-1)?.of, this.#reader.where);
    await mapParallel(packRuns(wanted), PARALLEL_REQUESTS, (run) => this.#run(file, fd, run));
  }

  async #run(file: StoredFile, fd: number, run: PackRun<number>): Promise<void> {
    const { signal, onProgress, phase, totalBytes } = this.options;
    signal?.throwIfAborted();
    let chunk = 0;
    const problem = await this.#reader.twice(run, async (bytes) => {
      this.#packBytes += bytes.length;
      const { damage } = await this.#decode(file, fd, run, bytes);
      chunk = damage?.chunk ?? 0;
      return damage?.what;
    });
    if (problem !== undefined) {
      const place = `the chunk at offset ${chunk * CHUNK_BYTES} of ${file.name}, in pack ${run.pack}`;
      throw damaged(this.#reader.where, `${place}, is damaged: ${problem}`);
    }
    for (const { of } of run.wanted) this.#done += chunkLength(of, file.bytes);
    onProgress?.(this.#meter.report(phase, { bytes: this.#done, totalBytes, pages: 0, channels: [] }));
  }

  async #decode(file: StoredFile, fd: number, run: PackRun<number>, bytes: Buffer) {
    const frames = run.wanted.map(({ reference, of }) => ({
      chunk: of,
      name: reference.name,
      start: reference.offset - run.offset,
      length: reference.length,
    }));
    try {
      return await this.#threads.run({ kind: 'decode', fd, fileBytes: file.bytes, bytes, frames });
    } catch (error) {
      if (!(error instanceof ChunkJobError)) throw error;
      const full = error.code === 'ENOSPC' || error.code === 'EDQUOT';
      throw new MapramError(
        full ? 'NO_SPACE' : 'IO',
        `pulling ${this.#reader.where}: ${errorReason(error)}`,
        {
          path: file.name,
          cause: error,
        },
      );
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#threads[Symbol.asyncDispose]();
  }
}

/** A page table may be damaged so that it leads past the end of its file. */
function assertInside(file: StoredFile, last: number | undefined, where: string): void {
  if (last === undefined || last * CHUNK_BYTES < file.bytes) return;
  throw damaged(
    where,
    `the page table of ${file.name} has a chunk at offset ${last * CHUNK_BYTES}, behind its end`,
  );
}
