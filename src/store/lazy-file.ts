/**
 * A file of a snapshot that is there before its bytes are: what is read is fetched first, and kept in a sparse file beside a map of
 * its chunks. Every chunk is checked against its name, one that an earlier process has left in the file included.
 */
import { syncFileData } from '../io/file/file-sync.js';
import { closeFile } from '../io/file/open-file.js';
import { readWhole, writeFully } from '../io/file/positional-io.js';
import type { ChunkMap } from './chunk-map.js';
import { CHUNK_BYTES, chunkLength, NODE_ENTRIES } from './format.js';
import type { FrameCodec } from './frame-codec.js';
import type { FrameReference, PageNode } from './page-node.js';
import type { PageTable } from './page-table.js';
import type { ChunkFetcher } from './pull.js';
import type { StoredFile } from './snapshot-root.js';

export interface LazyFileParts {
  /** Fetches, decodes and writes chunks. */
  readonly fetcher: ChunkFetcher;
  readonly codec: FrameCodec;
  /** Opened for reading and writing, as long as the stored file; closed with this. */
  readonly fd: number;
  readonly map: ChunkMap;
  /** Runs what needs the store, again and again while that cannot be reached. */
  readonly persist: (task: () => Promise<void>) => Promise<void>;
}

export class LazyFile implements Disposable {
  readonly name: string;
  readonly bytes: number;
  readonly #table: PageTable;
  /** Bit i & 7 of byte i >> 3: chunk i is in the file, and this process has checked it. */
  readonly #ready: Uint8Array;
  readonly #running = new Map<number, Promise<void>>();
  /** All of the file is there. */
  #complete = false;
  #urgent = 0;

  constructor(
    readonly stored: StoredFile,
    private readonly parts: LazyFileParts,
  ) {
    this.name = stored.name;
    this.bytes = stored.bytes;
    this.#table = parts.fetcher.table(stored);
    this.#ready = new Uint8Array(Math.ceil(Math.ceil(stored.bytes / CHUNK_BYTES) / 8));
  }

  /** Whether somebody waits for a read. */
  get isUrgent(): boolean {
    return this.#urgent > 0;
  }

  get isComplete(): boolean {
    return this.#complete;
  }

  /** @param length such that the range lies in the file */
  async read(offset: number, length: number): Promise<Buffer> {
    const first = Math.floor(offset / CHUNK_BYTES);
    const end = Math.ceil((offset + length) / CHUNK_BYTES);
    if (!this.#complete && !this.#areReady(first, end)) {
      this.#urgent += 1;
      try {
        await this.bring(first, end);
      } finally {
        this.#urgent -= 1;
      }
    }
    const bytes = Buffer.allocUnsafe(length);
    readWhole(this.parts.fd, bytes, offset);
    return bytes;
  }

  /** Makes sure that chunks `[first, end)` are in the file. @throws MapramError `FORMAT` for damage, whatever `persist` throws */
  async bring(first: number, end: number): Promise<void> {
    const waiting = new Set<Promise<void>>();
    const wanted: number[] = [];
    for (let chunk = first; chunk < end; chunk++) {
      if (this.#isReady(chunk)) continue;
      const running = this.#running.get(chunk);
      if (running === undefined) wanted.push(chunk);
      else waiting.add(running);
    }
    if (wanted.length > 0) {
      const own = this.parts
        .persist(() => this.#bring(wanted))
        .finally(() => {
          for (const chunk of wanted) this.#running.delete(chunk);
        });
      for (const chunk of wanted) this.#running.set(chunk, own);
      waiting.add(own);
    }
    await Promise.all(waiting);
  }

  /**
   * Numbers of chunks that are not zero and not here, in groups of neighbours, in the order of the file.
   *
   * @param most chunks of a group
   */
  async *missing(most: number): AsyncGenerator<[first: number, end: number]> {
    const leaves = Math.ceil(this.bytes / CHUNK_BYTES / NODE_ENTRIES);
    for (let number = 0; number < leaves; number++) {
      let leaf: PageNode | undefined;
      await this.parts.persist(async () => {
        leaf = await this.#table.leaf(number);
      });
      let group: [first: number, end: number] | undefined;
      for (const [index] of leaf?.entries() ?? []) {
        const chunk = number * NODE_ENTRIES + index;
        if (this.#isReady(chunk)) continue;
        if (group !== undefined && group[1] === chunk && chunk - group[0] < most) group[1] = chunk + 1;
        else {
          if (group !== undefined) yield group;
          group = [chunk, chunk + 1];
        }
      }
      if (group !== undefined) yield group;
    }
  }

  /** To be called when `missing` has come to its end and all of it was brought: from now on every byte is read from the file. */
  complete(): void {
    this.#complete = true;
  }

  /** Waits until what was fetched is on stable storage. */
  async sync(): Promise<void> {
    await syncFileData(this.parts.fd);
  }

  [Symbol.dispose](): void {
    this.parts.map[Symbol.dispose]();
    closeFile(this.parts.fd);
  }

  async #bring(chunks: readonly number[]): Promise<void> {
    const first = chunks[0] as number;
    const last = chunks.at(-1) as number;
    const references = await this.#table.references(first, last + 1 - first);
    const wanted: { reference: FrameReference; of: number }[] = [];
    const kept: number[] = [];
    for (const chunk of chunks) {
      const reference = references[chunk - first];
      if (this.#isIntact(chunk, reference)) kept.push(chunk);
      else if (reference !== undefined) wanted.push({ reference, of: chunk });
    }
    this.#makeReady(kept);
    if (wanted.length === 0) return;
    const { fetcher, fd, map } = this.parts;
    const brought = wanted.map(({ of }) => of);
    map.remove(brought);
    await fetcher.fetchChunks(this.stored, fd, wanted);
    map.add(brought);
    this.#makeReady(brought);
  }

  /** Whether the file has this chunk already, as it was stored. One of zeros is a hole, or is made zero here. */
  #isIntact(chunk: number, reference: FrameReference | undefined): boolean {
    const { fd, map, codec } = this.parts;
    if (reference !== undefined && !map.has(chunk)) return false;
    const bytes = Buffer.allocUnsafe(chunkLength(chunk, this.bytes));
    readWhole(fd, bytes, chunk * CHUNK_BYTES);
    if (reference !== undefined) return codec.name('chunk', bytes).equals(reference.name);
    if (!bytes.equals(Buffer.alloc(bytes.length))) writeFully(fd, bytes.fill(0), chunk * CHUNK_BYTES);
    return true;
  }

  #isReady(chunk: number): boolean {
    return ((this.#ready[chunk >> 3] ?? 0) & (1 << (chunk & 7))) !== 0;
  }

  #areReady(first: number, end: number): boolean {
    for (let chunk = first; chunk < end; chunk++) if (!this.#isReady(chunk)) return false;
    return true;
  }

  #makeReady(chunks: readonly number[]): void {
    for (const chunk of chunks) this.#ready[chunk >> 3] = (this.#ready[chunk >> 3] ?? 0) | (1 << (chunk & 7));
  }
}
