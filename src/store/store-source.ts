/** A file of a snapshot, read in place: only the nodes and chunks that are asked for are fetched. */
import type { ByteSource } from '../mapped-ram/byte-source.js';
import { CHUNK_BYTES, chunkLength, damaged } from './format.js';
import type { FrameReader } from './frame-reader.js';
import type { FrameReference } from './page-node.js';
import { PageTable } from './page-table.js';
import type { StoredFile } from './snapshot-root.js';

/** 16 MiB of chunks. */
const KEPT_CHUNKS = 256;

export class StoreSource implements ByteSource {
  readonly byteLength: number;
  readonly #table: PageTable;
  readonly #chunks = new Map<number, Buffer>();

  constructor(
    readonly file: StoredFile,
    private readonly reader: FrameReader,
  ) {
    this.byteLength = file.bytes;
    this.#table = new PageTable(file, reader);
  }

  /** The address of the snapshot. */
  get name(): string {
    return this.reader.where;
  }

  /** @throws MapramError `FORMAT` for damage, `IO` */
  async read(position: number, length: number): Promise<Uint8Array> {
    const end = Math.min(position + length, this.byteLength);
    if (end <= position) return new Uint8Array(0);
    const bytes = new Uint8Array(end - position);
    const first = Math.floor(position / CHUNK_BYTES);
    const last = Math.ceil(end / CHUNK_BYTES);
    // No more at once than is kept: a long read of a sparse file is many small ones.
    for (let from = first; from < last; from += KEPT_CHUNKS / 2) {
      const chunks = await this.#fetch(from, Math.min(from + KEPT_CHUNKS / 2, last));
      for (const [chunk, contents] of chunks) {
        const start = chunk * CHUNK_BYTES;
        const part = contents.subarray(Math.max(0, position - start), Math.min(contents.length, end - start));
        bytes.set(part, Math.max(0, start - position));
      }
    }
    return bytes;
  }

  /** Those of the chunks that are not zero. */
  async #fetch(first: number, end: number): Promise<Map<number, Buffer>> {
    const found = new Map<number, Buffer>();
    const missing: [number, FrameReference][] = [];
    for (const [index, reference] of (await this.#table.references(first, end - first)).entries()) {
      const kept = this.#chunks.get(first + index);
      if (reference !== undefined && kept !== undefined) found.set(first + index, kept);
      else if (reference !== undefined) missing.push([first + index, reference]);
    }
    const fetched = await this.reader.chunks(missing.map(([, reference]) => reference));
    for (const [index, [chunk]] of missing.entries()) {
      const contents = fetched[index] as Buffer;
      this.#keep(chunk, contents);
      found.set(chunk, contents);
    }
    return found;
  }

  #keep(chunk: number, contents: Buffer): void {
    const expected = chunkLength(chunk, this.byteLength);
    if (contents.length !== expected)
      throw damaged(
        this.name,
        `the chunk at offset ${chunk * CHUNK_BYTES} has ${contents.length} bytes, not ${expected}`,
      );
    if (this.#chunks.size >= KEPT_CHUNKS) {
      const [oldest] = this.#chunks.keys();
      this.#chunks.delete(oldest as number);
    }
    this.#chunks.set(chunk, contents);
  }
}
