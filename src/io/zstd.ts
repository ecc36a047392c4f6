/** The system's zstd library, for Node versions without one of their own (before 22.15). */
import { type NativeZstd, nativeZstd } from './native.js';

export interface ZstdDecoder {
  /**
   * Decodes the next part of a stream into `into`.
   *
   * @returns bytes produced; one more than `into.length` when there would have been more
   * @throws Error with the library's words when the input is not zstd
   */
  decode(compressed: Uint8Array, into: Uint8Array): number;
  close(): void;
}

/** A decoder for one stream, undefined where there is no libzstd.so.1. */
export function openZstdDecoder(): ZstdDecoder | undefined {
  const library = nativeZstd();
  return library && new StreamDecoder(library);
}

class StreamDecoder implements ZstdDecoder {
  readonly #stream: bigint;
  #closed = false;

  constructor(private readonly library: NativeZstd) {
    this.#stream = library.createDecoder();
  }

  decode(compressed: Uint8Array, into: Uint8Array): number {
    let consumed = 0;
    let produced = 0;
    // Once the output is full, one spare byte tells whether there is more.
    const spare = new Uint8Array(1);
    for (;;) {
      const full = produced >= into.length;
      const target = full ? spare : into.subarray(produced);
      const step = this.library.decode(this.#stream, compressed.subarray(consumed), target);
      consumed += step.consumed;
      produced += step.produced;
      if (full ? step.produced > 0 || consumed === compressed.length : step.consumed + step.produced === 0)
        return produced;
    }
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.library.freeDecoder(this.#stream);
  }
}

export interface ZstdEncoder {
  /** Encodes the next part of a stream and flushes: what it returns decodes to all that was given so far. */
  encode(bytes: Uint8Array): Uint8Array;
  close(): void;
}

/** An encoder for one stream, undefined where there is no libzstd.so.1. */
export function openZstdEncoder(level: number): ZstdEncoder | undefined {
  const library = nativeZstd();
  return library && new StreamEncoder(library, level);
}

const OUTPUT_BYTES = 128 << 10;

class StreamEncoder implements ZstdEncoder {
  readonly #stream: bigint;
  #closed = false;

  constructor(
    private readonly library: NativeZstd,
    level: number,
  ) {
    this.#stream = library.createEncoder(level);
  }

  encode(bytes: Uint8Array): Uint8Array {
    const pieces: Uint8Array[] = [];
    for (let consumed = 0; ; ) {
      const output = new Uint8Array(OUTPUT_BYTES);
      const step = this.library.encode(this.#stream, bytes.subarray(consumed), output);
      consumed += step.consumed;
      pieces.push(output.subarray(0, step.produced));
      if (step.left === 0 && consumed >= bytes.length) return Buffer.concat(pieces);
    }
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.library.freeEncoder(this.#stream);
  }
}
