/** The hashes that chunks of pages are given, for damage (`xxh64`, `xxh64-pages`) or against forgery (`sha256-128`). */
import { createHash } from 'node:crypto';
import { requirePackage } from '../io/package-files.js';

/**
 * - `xxh64`: XXH64, seed 0, big-endian, over all pages one behind the other. 5 GB/s a core and a chance of 2^-64 to miss damage,
 *   but anybody can make other contents with the same digest.
 * - `xxh64-pages`: the sum, modulo 2^64, little-endian, of XXH64 of each page, its number in the block as the seed. As good, at two
 *   thirds of the speed, and it does not matter in which order pages come: for those that arrive on several channels at once.
 * - `sha256-128`: the first 128 bits of SHA-256. 1.8 GB/s a core with SHA instructions; what a signature needs.
 */
export type DigestAlgorithm = keyof typeof DIGEST_BYTES;

/** Bytes of one digest. */
export const DIGEST_BYTES = { xxh64: 8, 'xxh64-pages': 8, 'sha256-128': 16 } as const;

/** Hashes one chunk after the other. */
export interface ChunkHasher {
  /** @param offset of whole pages, in their block */
  update(bytes: Uint8Array, offset: number): void;
  /** Writes the digest of all updates since the last call into `target` and begins anew. */
  finish(target: Uint8Array): void;
}

export function createChunkHasher(algorithm: DigestAlgorithm, pageSize: number): ChunkHasher {
  if (algorithm === 'sha256-128') return sha256Hasher();
  return algorithm === 'xxh64' ? xxh64Hasher() : pageSumHasher(createPageSum(pageSize));
}

/** What whole pages, from `offset` of their block on, add to the digest `xxh64-pages` of their chunk. */
export type PageSum = (bytes: Uint8Array, offset: number) => bigint;

export function createPageSum(pageSize: number): PageSum {
  const { xxh64 } = xxhash();
  return (bytes, offset) => {
    let sum = 0n;
    for (let at = 0; at < bytes.length; at += pageSize)
      sum += xxh64(bytes.subarray(at, at + pageSize), BigInt((offset + at) / pageSize));
    return BigInt.asUintN(64, sum);
  };
}

/** Loaded by those who hash. Compiled code, since WebAssembly would have each page copied into its own memory first. */
function xxhash(): typeof import('@node-rs/xxhash') {
  return requirePackage('@node-rs/xxhash', import.meta.url);
}

function xxh64Hasher(): ChunkHasher {
  const { Xxh64 } = xxhash();
  let hash = new Xxh64();
  return {
    update: (bytes) => void hash.update(bytes),
    finish(target) {
      new DataView(target.buffer, target.byteOffset).setBigUint64(0, hash.digest());
      hash = new Xxh64();
    },
  };
}

function pageSumHasher(pageSum: PageSum): ChunkHasher {
  let sum = 0n;
  return {
    update(bytes, offset) {
      sum += pageSum(bytes, offset);
    },
    finish(target) {
      new DataView(target.buffer, target.byteOffset).setBigUint64(0, BigInt.asUintN(64, sum), true);
      sum = 0n;
    },
  };
}

function sha256Hasher(): ChunkHasher {
  let hash = createHash('sha256');
  return {
    update: (bytes) => void hash.update(bytes),
    finish(target) {
      target.set(hash.digest().subarray(0, DIGEST_BYTES['sha256-128']));
      hash = createHash('sha256');
    },
  };
}
