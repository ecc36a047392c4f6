/** Chunks one file into a store: reads what holds data, keeps what the parent has, and writes the rest into packs. */
import { dataExtents } from '../io/file/data-extents.js';
import { CHUNK_STATE, type EncodedChunks } from './chunk-protocol.js';
import type { ChunkThreads } from './chunk-threads.js';
import { CHUNK_BYTES, chunkLength, levelsFor, NAME_BYTES, NODE_ENTRIES } from './format.js';
import type { FrameCodec } from './frame-codec.js';
import type { PackWriter } from './pack-writer.js';
import type { FrameReference, PageNode } from './page-node.js';
import type { PageTable } from './page-table.js';
import { type Entry, PageTableWriter } from './page-table-writer.js';
import type { StoredFile } from './snapshot-root.js';

/** Chunks of one job: 2 MiB of the file. */
const JOB_CHUNKS = 32;
/** Names that are remembered, to store what is there twice only once: 64 GiB of chunks, some 150 MB. */
const REMEMBERED = 1 << 20;

export interface FileToStore {
  readonly role: StoredFile['role'];
  readonly name: string;
  readonly fd: number;
  readonly bytes: number;
  /** The same file of the parent. */
  readonly parent?: PageTable | undefined;
  /** Whether a chunk is known to be as in the parent, so that it need not be read. */
  readonly isUnchanged?: ((chunk: number) => boolean) | undefined;
}

export interface StoringContext {
  readonly codec: FrameCodec;
  readonly threads: ChunkThreads;
  readonly chunks: PackWriter;
  readonly nodes: PackWriter;
  /** What is found of chunks so far; shared by the files of a snapshot. */
  readonly known: Map<string, Entry>;
  readonly signal?: AbortSignal | undefined;
  onChunks(counts: ChunkCounts): void;
}

/** Bytes of the file, by what became of them. */
export interface ChunkCounts {
  /** Read, or known to be as in the parent. */
  readonly done: number;
  /** As in the parent, or somewhere else in the snapshot. */
  readonly shared: number;
  /** Not read at all. */
  readonly skipped: number;
}

/** The file and the packs that it needs. */
export interface StoredFileResult {
  readonly file: StoredFile;
  readonly packs: ReadonlySet<string>;
}

/** A part of one node of level 1. */
interface Job {
  readonly leaf: number;
  readonly last: boolean;
  readonly chunks: readonly number[];
  readonly parents: readonly (FrameReference | undefined)[];
  readonly parentNode: FrameReference | undefined;
  /** Kept without being read. */
  readonly kept: ReadonlyMap<number, FrameReference>;
  readonly result: Promise<EncodedChunks>;
}

/**
 * @throws ChunkJobError for a file that cannot be read, whatever the place throws
 */
export async function storeFile(source: FileToStore, context: StoringContext): Promise<StoredFileResult> {
  return await new FileStoring(source, context).run();
}

class FileStoring {
  readonly #table: PageTableWriter;
  readonly #levels: number;
  #leafEntries = new Map<number, Entry>();
  #dataBytes = 0;

  constructor(
    private readonly source: FileToStore,
    private readonly context: StoringContext,
  ) {
    this.#levels = levelsFor(source.bytes);
    this.#table = new PageTableWriter(this.#levels, context.codec, context.nodes);
  }

  async run(): Promise<StoredFileResult> {
    const { threads, signal, chunks, nodes } = this.context;
    const { role, name, bytes } = this.source;
    // Two jobs a thread: one in work, one that waits for it.
    const ahead = threads.count * 2 + 1;
    const jobs: Job[] = [];
    for await (const job of this.#jobs()) {
      // Handled where it is awaited.
      job.result.catch(() => {});
      jobs.push(job);
      if (jobs.length > ahead) await this.#take(jobs.shift() as Job);
      signal?.throwIfAborted();
    }
    for (const job of jobs) await this.#take(job);
    await chunks.close();
    const top = await this.#table.finish((level, number) => this.#parentNode(level, number));
    await nodes.close();
    return {
      file: { role, name, bytes, dataBytes: this.#dataBytes, levels: this.#levels, top },
      packs: this.#table.packs,
    };
  }

  async *#jobs(): AsyncGenerator<Job> {
    for (const [leaf, numbers] of leavesWithData(this.source)) {
      const parent = await this.source.parent?.leaf(leaf);
      const parentNode = parent && (await this.#parentNode(1, leaf));
      const { kept, rest } = this.#split(numbers, parent);
      for (let at = 0; at === 0 || at < rest.length; at += JOB_CHUNKS) {
        const chunks = rest.slice(at, at + JOB_CHUNKS);
        const parents = chunks.map((chunk) => parent?.get(chunk % NODE_ENTRIES));
        const last = at + JOB_CHUNKS >= rest.length;
        const result = this.#encode(chunks, parents);
        yield { leaf, last, chunks, parents, parentNode, kept: at === 0 ? kept : new Map(), result };
      }
    }
  }

  /** Those chunks that must be read, and those that are known to be as in the parent. */
  #split(numbers: readonly number[], parent: PageNode | undefined) {
    const { isUnchanged } = this.source;
    const kept = new Map<number, FrameReference>();
    const rest: number[] = [];
    for (const chunk of numbers) {
      const reference = parent?.get(chunk % NODE_ENTRIES);
      if (reference !== undefined && isUnchanged?.(chunk)) kept.set(chunk, reference);
      else rest.push(chunk);
    }
    return { kept, rest };
  }

  async #encode(
    chunks: readonly number[],
    parents: readonly (FrameReference | undefined)[],
  ): Promise<EncodedChunks> {
    const names = new Uint8Array(chunks.length * NAME_BYTES);
    for (const [index, reference] of parents.entries())
      if (reference) names.set(reference.name, index * NAME_BYTES);
    const { fd, bytes } = this.source;
    return await this.context.threads.run({ kind: 'encode', fd, fileBytes: bytes, chunks, parents: names });
  }

  async #take(job: Job): Promise<void> {
    const { states, names, lengths, frames } = await job.result;
    const counts = { done: 0, shared: 0, skipped: 0 };
    for (const [chunk, reference] of job.kept) {
      const bytes = this.#enter(chunk, reference);
      counts.done += bytes;
      counts.shared += bytes;
      counts.skipped += bytes;
    }
    let stored = 0;
    let at = 0;
    for (const [index, chunk] of job.chunks.entries()) {
      counts.done += chunkLength(chunk, this.source.bytes);
      if (states[index] === CHUNK_STATE.zero) continue;
      if (states[index] === CHUNK_STATE.asParent) {
        counts.shared += this.#enter(chunk, job.parents[index] as FrameReference);
        continue;
      }
      const name = Buffer.from(names.slice(stored * NAME_BYTES, (stored + 1) * NAME_BYTES));
      const length = lengths[stored] as number;
      const known = this.context.known.get(name.toString('latin1'));
      const entry = known ?? { name, slot: await this.context.chunks.add(frames.subarray(at, at + length)) };
      const bytes = this.#enter(chunk, entry);
      if (known) counts.shared += bytes;
      stored += 1;
      at += length;
    }
    if (job.last) await this.#endLeaf(job);
    this.context.onChunks(counts);
  }

  /** @returns bytes of the chunk */
  #enter(chunk: number, entry: Entry): number {
    const bytes = chunkLength(chunk, this.source.bytes);
    const { known } = this.context;
    this.#leafEntries.set(chunk % NODE_ENTRIES, entry);
    this.#dataBytes += bytes;
    if (known.size < REMEMBERED) known.set(entry.name.toString('latin1'), entry);
    return bytes;
  }

  async #endLeaf({ leaf, parentNode }: Job): Promise<void> {
    const entries = this.#leafEntries;
    this.#leafEntries = new Map();
    await this.#table.addLeaf(leaf, entries, parentNode);
  }

  /** The reference by which the parent leads to its node of this level and number. */
  async #parentNode(level: number, number: number): Promise<FrameReference | undefined> {
    const { parent } = this.source;
    return level < this.#levels ? await parent?.reference(level, number) : undefined;
  }
}

/** The nodes of level 1 that have data, and the numbers of those chunks: what is a hole in the file is not looked at. */
function* leavesWithData({ fd, bytes }: FileToStore): Generator<[leaf: number, chunks: number[]]> {
  let chunks: number[] = [];
  let leaf = 0;
  let next = 0;
  for (const { start, end } of dataExtents(fd, 0, bytes)) {
    for (let chunk = Math.max(next, Math.floor(start / CHUNK_BYTES)); chunk * CHUNK_BYTES < end; chunk++) {
      const number = Math.floor(chunk / NODE_ENTRIES);
      if (number !== leaf && chunks.length > 0) {
        yield [leaf, chunks];
        chunks = [];
      }
      leaf = number;
      chunks.push(chunk);
      next = chunk + 1;
    }
  }
  if (chunks.length > 0) yield [leaf, chunks];
}
