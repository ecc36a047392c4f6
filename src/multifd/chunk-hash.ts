/** The hashes that chunks of pages are given, for damage (`xxh64`) or against forgery (`sha256-128`). */
import { createHash } from 'node:crypto';
import createXxhash from 'xxhash-wasm';

/**
 * - `xxh64`: XXH64, seed 0, big-endian. 5 GB/s a core and a chance of 2^-64 to miss damage, but anybody can make other contents
 *   with the same digest.
 * - `sha256-128`: the first 128 bits of SHA-256. 1.8 GB/s a core with SHA instructions; what a signature needs.
 */
export type DigestAlgorithm = keyof typeof DIGEST_BYTES;

/** Bytes of one digest. */
export const DIGEST_BYTES = { xxh64: 8, 'sha256-128': 16 } as const;

/** Hashes one chunk after the other. */
export interface ChunkHasher {
  update(bytes: Uint8Array): void;
  /** Writes the digest of all updates since the last call into `target` and begins anew. */
  finish(target: Uint8Array): void;
}

/** What goes into the hash at once: copied to the WebAssembly memory, it is still in the processor's cache when read. */
const SLICE_BYTES = 128 * 1024;

export async function createChunkHasher(algorithm: DigestAlgorithm): Promise<ChunkHasher> {
  return algorithm === 'xxh64' ? xxh64Hasher(await createXxhash()) : sha256Hasher();
}

function xxh64Hasher({ create64 }: Awaited<ReturnType<typeof createXxhash>>): ChunkHasher {
  let hash = create64();
  return {
    update(bytes) {
      for (let at = 0; at < bytes.length; at += SLICE_BYTES)
        hash.update(bytes.subarray(at, at + SLICE_BYTES));
    },
    finish(target) {
      new DataView(target.buffer, target.byteOffset).setBigUint64(0, hash.digest());
      hash = create64();
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
