/**
 * zstd for blocks whose length is known beforehand: the system's libzstd where there is one, else Node's own, which it has from
 * 22.15 on.
 */
import { nativeZstd } from './native.js';

export interface ZstdBlocks {
  /** The compressed bytes, valid until the next call; undefined where they would take no less room than `bytes` do. */
  compress(bytes: Uint8Array, level: number): Uint8Array | undefined;
  /**
   * Fills all of `into`. Never writes, or allocates, more than that, whatever `compressed` claims.
   *
   * @throws Error when it is not zstd, or holds more or less than `into` takes
   */
  decompress(compressed: Uint8Array, into: Uint8Array): void;
}

/** The part of node:zlib that Node 20 does not have. */
interface ZlibZstd {
  zstdCompressSync?(bytes: Uint8Array, options: { params: Record<number, number> }): Buffer;
  zstdDecompressSync?(bytes: Uint8Array, options: { maxOutputLength: number }): Buffer;
}

/** ZSTD_c_compressionLevel. */
const COMPRESSION_LEVEL = 100;

/** Undefined where there is neither. */
export function zstdBlocks(): ZstdBlocks | undefined {
  return nativeBlocks() ?? zlibBlocks();
}

/** Those of libzstd. */
export function nativeBlocks(): ZstdBlocks | undefined {
  const library = nativeZstd();
  if (library === undefined) return undefined;
  let output = Buffer.alloc(0);
  return {
    compress(bytes, level) {
      if (output.length < bytes.length + (bytes.length >> 7) + SLACK)
        output = Buffer.allocUnsafeSlow(bytes.length + (bytes.length >> 7) + SLACK);
      const length = library.compressBlock(bytes, output, level);
      return length < bytes.length ? output.subarray(0, length) : undefined;
    },
    decompress(compressed, into) {
      assertLength(library.decompressBlock(compressed, into), into.length);
    },
  };
}

/** What a block that cannot be compressed grows by, at most: ZSTD_compressBound adds less than a 128th, and 512 bytes. */
const SLACK = 4096;

/** Those of Node. */
export function zlibBlocks(): ZstdBlocks | undefined {
  const { zstdCompressSync, zstdDecompressSync } = process.getBuiltinModule('node:zlib') as ZlibZstd;
  if (zstdCompressSync === undefined || zstdDecompressSync === undefined) return undefined;
  return {
    compress(bytes, level) {
      const compressed = zstdCompressSync(bytes, { params: { [COMPRESSION_LEVEL]: level } });
      return compressed.length < bytes.length ? compressed : undefined;
    },
    decompress(compressed, into) {
      const bytes = zstdDecompressSync(compressed, { maxOutputLength: into.length });
      assertLength(bytes.length, into.length);
      into.set(bytes);
    },
  };
}

function assertLength(length: number, expected: number): void {
  if (length !== expected) throw new Error(`it holds ${length} bytes, not ${expected}`);
}
