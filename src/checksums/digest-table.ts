/**
 * The digests of one region, in memory that all channels share. Each chunk's entry is written by the one channel that
 * works on it; to sums any may `add`.
 *
 * ```
 * digest 0 | digest 1 | … | digest n-1     of chunks of `chunkBytes` of the region, the last one shorter
 * state 0  | state 1  | … | state n-1      a byte each: CHUNK_STATE
 * ```
 *
 * A chunk's digest is the hash of its present pages (bit set), in ascending order, one behind the other, or with
 * `xxh64-pages` the sum of theirs. Pages whose bit is clear are left out: their contents are zero by the bitmap, whatever
 * their slots hold. A chunk without any present page has the digest 0.
 */
import { DIGEST_BYTES, type DigestAlgorithm } from './chunk-hash.js';

/** How a chunk's digest came about. */
export const CHUNK_STATE = {
  /** Not looked at. */
  none: 0,
  done: 1,
  /** The file ends before the chunk's last present page. */
  truncated: 2,
  /** Reading failed. */
  unreadable: 3,
  /** Some of its pages came more than once: what was digested is not what is there. */
  stale: 4,
} as const;
export type ChunkState = (typeof CHUNK_STATE)[keyof typeof CHUNK_STATE];

/** What a worker needs to make a table of its own over the same memory. */
export interface DigestTableShape {
  algorithm: DigestAlgorithm;
  /** A power of two. */
  chunkBytes: number;
  /** Bytes of the region. */
  length: number;
  buffer: SharedArrayBuffer;
}

export class DigestTable {
  readonly count: number;
  /** All digests, one behind the other. */
  readonly digests: Uint8Array;
  readonly #states: Uint8Array;
  /** The digests, where they are sums. */
  readonly #sums: BigUint64Array;
  readonly #digestBytes: number;

  constructor(readonly shape: DigestTableShape) {
    this.#digestBytes = DIGEST_BYTES[shape.algorithm];
    this.count = Math.ceil(shape.length / shape.chunkBytes);
    this.digests = new Uint8Array(shape.buffer, 0, this.count * this.#digestBytes);
    this.#states = new Uint8Array(shape.buffer, this.digests.length, this.count);
    this.#sums = new BigUint64Array(shape.buffer, 0, shape.algorithm === 'xxh64-pages' ? this.count : 0);
  }

  static create(shape: Omit<DigestTableShape, 'buffer'>): DigestTable {
    const count = Math.ceil(shape.length / shape.chunkBytes);
    const buffer = new SharedArrayBuffer(count * (DIGEST_BYTES[shape.algorithm] + 1));
    return new DigestTable({ ...shape, buffer });
  }

  /** The digest of a chunk, as a view. */
  digest(chunk: number): Uint8Array {
    return this.digests.subarray(chunk * this.#digestBytes, (chunk + 1) * this.#digestBytes);
  }

  state(chunk: number): ChunkState {
    return (this.#states[chunk] ?? CHUNK_STATE.none) as ChunkState;
  }

  setState(chunk: number, state: ChunkState): void {
    Atomics.store(this.#states, chunk, state);
  }

  /** Adds to the sum that is the digest of a chunk, whoever else does, and makes it count as done unless it is stale. */
  add(chunk: number, value: bigint): void {
    Atomics.add(this.#sums, chunk, value);
    Atomics.compareExchange(this.#states, chunk, CHUNK_STATE.none, CHUNK_STATE.done);
  }
}
