import { Transform, type TransformCallback } from 'node:stream';
import { type NativeZstd, nativeZstd } from './native.js';

const OUTPUT_BYTES = 2 ** 20;

/**
 * A stream that decompresses zstd: Node's own (since 22.15), else the system's libzstd. Undefined where there is neither.
 * Errors about the data have a `code` that begins with `ZSTD_`.
 */
export function createZstdDecompressor(): Transform | undefined {
  const { createZstdDecompress } = process.getBuiltinModule('node:zlib') as {
    createZstdDecompress?: () => Transform;
  };
  if (createZstdDecompress !== undefined) return createZstdDecompress();
  return createNativeZstdDecompressor();
}

/** The one over libzstd. */
export function createNativeZstdDecompressor(): Transform | undefined {
  const library = nativeZstd();
  return library && new NativeDecompressor(library);
}

class NativeDecompressor extends Transform {
  readonly #decoder: bigint;

  constructor(private readonly library: NativeZstd) {
    super();
    this.#decoder = library.createDecoder();
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    try {
      for (let at = 0; ; ) {
        const output = Buffer.allocUnsafe(OUTPUT_BYTES);
        const { consumed, produced } = this.library.decode(this.#decoder, chunk.subarray(at), output);
        at += consumed;
        if (produced > 0) this.push(output.subarray(0, produced));
        // With room left in the output, everything that could be decoded has been.
        if (produced < output.length && (at >= chunk.length || consumed === 0)) break;
      }
      done();
    } catch (error) {
      done(Object.assign(error as Error, { code: 'ZSTD_data' }));
    }
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.library.freeDecoder(this.#decoder);
    done(error);
  }
}
