/** The sending half of `payload-decoder.ts`: one continuous stream a channel, flushed at the end of each packet. */
import * as zlib from 'node:zlib';
import { createDeflate, type Deflate } from 'node:zlib';
import { MapramError } from '../../errors.js';
import { openZstdEncoder } from '../../io/zstd.js';
import type { StreamCompression } from './payload-decoder.js';

export interface PayloadEncoder {
  /** Encodes one packet's pages. */
  encode(pages: Uint8Array): Promise<Uint8Array>;
  close(): void;
}

interface ZlibWithZstd {
  createZstdCompress?: (options: { params: Record<number, number> }) => Deflate;
  constants: { ZSTD_c_compressionLevel?: number; ZSTD_e_flush?: number; Z_SYNC_FLUSH: number };
}

/** @throws MapramError `UNSUPPORTED` where there is no zstd */
export function payloadEncoder(
  method: Exclude<StreamCompression, 'none'>,
  level: number,
  name: string,
): PayloadEncoder {
  const { createZstdCompress, constants } = zlib as ZlibWithZstd;
  if (method === 'zlib') return new TransformEncoder(createDeflate({ level }), constants.Z_SYNC_FLUSH);
  const { ZSTD_c_compressionLevel: levelParameter = -1, ZSTD_e_flush: flush = -1 } = constants;
  if (createZstdCompress)
    return new TransformEncoder(createZstdCompress({ params: { [levelParameter]: level } }), flush);
  const library = openZstdEncoder(level);
  if (library) return { encode: async (pages) => library.encode(pages), close: () => library.close() };
  throw new MapramError(
    'UNSUPPORTED',
    `sending ${name}: this Node.js has no zstd and there is no libzstd.so.1; use Node.js 22.15 or later, install libzstd1, or choose zlib`,
  );
}

/** A stream of node:zlib, asked packet by packet. */
class TransformEncoder implements PayloadEncoder {
  #pieces: Uint8Array[] = [];
  #fail: (error: Error) => void = () => {};

  constructor(
    private readonly stream: Deflate,
    private readonly flush: number,
  ) {
    stream.on('data', (piece: Buffer) => this.#pieces.push(piece));
    stream.on('error', (error) => this.#fail(error));
  }

  async encode(pages: Uint8Array): Promise<Uint8Array> {
    this.#pieces = [];
    await new Promise<void>((resolve, reject) => {
      this.#fail = reject;
      this.stream.write(pages);
      this.stream.flush(this.flush, () => resolve());
    });
    // The last piece may be emitted only after the flush has called back.
    await new Promise<void>((resolve) => setImmediate(resolve));
    return Buffer.concat(this.#pieces);
  }

  close(): void {
    this.stream.destroy();
  }
}
