/** The compressed payloads of one multifd channel: one continuous stream, flushed at the end of each packet. */

import { createInflate, type Inflate } from 'node:zlib';
import { errorReason, MapramError } from '../../errors.js';
import { openZstdDecoder } from '../../io/zstd.js';
import type { MultifdMethod } from '../../stream/multifd-packet.js';

/** Compressions that can be received. */
export const STREAM_COMPRESSIONS = ['none', 'zlib', 'zstd'] as const;

export type StreamCompression = (typeof STREAM_COMPRESSIONS)[number];

export interface PayloadDecoder {
  /**
   * Decodes one packet's payload.
   *
   * @param into filled exactly
   * @throws MapramError `FORMAT` when the payload gives more or fewer bytes, or is no such stream
   */
  decode(compressed: Uint8Array, into: Uint8Array): Promise<void>;
  close(): void;
}

interface ZlibWithZstd {
  createZstdDecompress?: (options: { chunkSize: number }) => Inflate;
}

/** What a decoder hands out at a time. */
const CHUNK_BYTES = 512 << 10;

/**
 * @param name of the channel, for errors
 * @throws MapramError `UNSUPPORTED` for methods that cannot be decoded here
 */
export function payloadDecoder(method: MultifdMethod, name: string): PayloadDecoder {
  if (method === 'zlib') return new TransformDecoder(createInflate({ chunkSize: CHUNK_BYTES }), name);
  if (method === 'zstd') {
    const { createZstdDecompress } = process.getBuiltinModule('node:zlib') as ZlibWithZstd;
    if (createZstdDecompress)
      return new TransformDecoder(createZstdDecompress({ chunkSize: CHUNK_BYTES }), name);
    const library = openZstdDecoder();
    if (library) {
      return {
        decode: async (compressed, into) => {
          const produced = library.decode(compressed, into);
          if (produced !== into.length) throw wrongLength(name, produced, into.length);
        },
        close: () => library.close(),
      };
    }
  }
  throw new MapramError('UNSUPPORTED', `receiving ${name}: ${whyNotDecodable(method)}`);
}

/** Why streams compressed with `method` cannot be received here, undefined if they can. */
export function whyNotDecodable(method: MultifdMethod): string | undefined {
  if (method === 'none' || method === 'zlib') return undefined;
  if (method !== 'zstd')
    return `the compression ${method} needs special hardware libraries; use none, zlib or zstd`;
  if ((process.getBuiltinModule('node:zlib') as ZlibWithZstd).createZstdDecompress) return undefined;
  const library = openZstdDecoder();
  library?.close();
  return library
    ? undefined
    : `this Node.js has no zstd and there is no libzstd.so.1; use Node.js 22.15 or later, install libzstd1, or choose zlib`;
}

/** A stream of node:zlib, asked packet by packet. */
class TransformDecoder implements PayloadDecoder {
  #error: Error | undefined;
  #wake: (() => void) | undefined;
  #into: Uint8Array = new Uint8Array(0);
  #filled = 0;

  constructor(
    private readonly stream: Inflate,
    private readonly name: string,
  ) {
    stream.on('data', (chunk: Buffer) => {
      const fitting = chunk.subarray(0, this.#into.length - this.#filled);
      this.#into.set(fitting, this.#filled);
      this.#filled += chunk.length;
      this.#wake?.();
    });
    stream.on('error', (error) => {
      this.#error = error;
      this.#wake?.();
    });
  }

  async decode(compressed: Uint8Array, into: Uint8Array): Promise<void> {
    this.#into = into;
    this.#filled = 0;
    // Called back when all of it has been decoded; what came out of it has been emitted or is about to be.
    await new Promise<void>((resolve) => {
      this.#wake = () => {
        if (this.#error) resolve();
      };
      this.stream.write(compressed, () => resolve());
    });
    await new Promise<void>((resolve) => setImmediate(resolve));
    if (this.#error) {
      throw new MapramError(
        'FORMAT',
        `receiving ${this.name}: a payload cannot be decompressed: ${errorReason(this.#error)}`,
        {
          cause: this.#error,
        },
      );
    }
    if (this.#filled !== into.length) throw wrongLength(this.name, this.#filled, into.length);
  }

  close(): void {
    this.stream.destroy();
  }
}

function wrongLength(name: string, produced: number, expected: number): MapramError {
  return new MapramError(
    'FORMAT',
    `receiving ${name}: a payload decompresses to ${produced} bytes instead of ${expected}`,
  );
}
