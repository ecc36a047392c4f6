/**
 * Numbers by index, more than fit into memory: those that were not used for longest are in a file.
 *
 * ```
 * indexes   |chunk 0  |chunk 1  |chunk 2  | …       512 numbers each, all 0 at first
 * memory         1         0                        none where nothing was set
 * file      |chunk 0  |         |chunk 2  |         8 bytes a number, at its index; the rest is hole
 * ```
 *
 * The file has no name, so nothing is left behind whatever happens, and is made only when it is needed.
 */
import { closeSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { errorReason, MapramError } from '../../errors.js';

const CHUNK_NUMBERS = 512;
const CHUNK_BYTES = 8 * CHUNK_NUMBERS;

interface Chunk {
  numbers: Float64Array;
  /** Whether the file lacks what was set last. */
  changed: boolean;
}

export interface PagedNumbersOptions {
  /** For numbers that are kept in memory. */
  memoryBytes: number;
  /** Of all chunks that anything is set in. */
  maximumBytes: number;
  /** For errors: what the numbers say. */
  purpose: string;
}

export class PagedNumbers implements Disposable {
  /** In the order of their last use, the oldest first. */
  readonly #chunks = new Map<number, Chunk>();
  readonly #maximum: number;
  /** One bit a chunk that has ever been set. */
  #used = new Uint8Array(0);
  #usedBytes = 0;
  #last: { index: number; chunk: Chunk } | undefined;
  #fd: number | undefined;

  constructor(private readonly options: PagedNumbersOptions) {
    this.#maximum = Math.max(1, Math.floor(options.memoryBytes / CHUNK_BYTES));
  }

  /** 0 where nothing was set. @throws MapramError `IO` where the file cannot be used */
  get(index: number): number {
    const at = Math.floor(index / CHUNK_NUMBERS);
    if (!this.#isUsed(at)) return 0;
    return this.#chunk(at).numbers[index % CHUNK_NUMBERS] as number;
  }

  /** @throws MapramError `IO` where the file cannot be used, `UNSUPPORTED` where all chunks together become too large */
  set(index: number, value: number): void {
    const chunk = this.#chunk(Math.floor(index / CHUNK_NUMBERS));
    chunk.numbers[index % CHUNK_NUMBERS] = value;
    chunk.changed = true;
  }

  /** Sets `[start, end)` to 0, which takes nothing where nothing else was set. */
  clear(start: number, end: number): void {
    for (const at of this.#usedChunks(start, end)) {
      const base = at * CHUNK_NUMBERS;
      const chunk = this.#chunk(at);
      chunk.numbers.fill(0, Math.max(0, start - base), Math.min(CHUNK_NUMBERS, end - base));
      chunk.changed = true;
    }
  }

  /** The indexes in `[start, end)` whose number is not 0, in ascending order. */
  *indexes(start: number, end: number): Generator<number, void, undefined> {
    for (const at of this.#usedChunks(start, end)) {
      const base = at * CHUNK_NUMBERS;
      // All at once: the chunk may have gone from memory when the generator is resumed.
      const { numbers } = this.#chunk(at);
      const found: number[] = [];
      const last = Math.min(CHUNK_NUMBERS, end - base);
      for (let index = Math.max(0, start - base); index < last; index++)
        if (numbers[index] !== 0) found.push(base + index);
      yield* found;
    }
  }

  [Symbol.dispose](): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }

  *#usedChunks(start: number, end: number): Generator<number> {
    const last = Math.min(Math.ceil(end / CHUNK_NUMBERS), this.#used.length * 8);
    for (let at = Math.floor(start / CHUNK_NUMBERS); at < last; at++) {
      if (at % 8 === 0 && this.#used[at / 8] === 0) at += 7;
      else if (this.#isUsed(at)) yield at;
    }
  }

  #isUsed(at: number): boolean {
    return ((this.#used[Math.floor(at / 8)] ?? 0) & (1 << (at % 8))) !== 0;
  }

  #chunk(at: number): Chunk {
    if (this.#last?.index === at) return this.#last.chunk;
    let chunk = this.#chunks.get(at);
    if (chunk === undefined) {
      const room = this.#chunks.size < this.#maximum ? undefined : this.#evicted();
      chunk = { numbers: this.#numbers(at, room), changed: false };
    } else this.#chunks.delete(at);
    this.#chunks.set(at, chunk);
    this.#last = { index: at, chunk };
    return chunk;
  }

  /** Of a chunk that is not in memory, in memory that another one had. */
  #numbers(at: number, room: Float64Array = new Float64Array(CHUNK_NUMBERS)): Float64Array {
    if (!this.#isUsed(at)) {
      this.#use(at);
      return room.fill(0);
    }
    this.#transfer('reading', (fd) => readSync(fd, room, 0, CHUNK_BYTES, at * CHUNK_BYTES));
    return room;
  }

  #use(at: number): void {
    const { purpose, maximumBytes } = this.options;
    if (this.#usedBytes + CHUNK_BYTES > maximumBytes) {
      throw new MapramError(
        'UNSUPPORTED',
        `remembering ${purpose}: they are scattered so widely that this takes more than ${maximumBytes} bytes, as of no saved VM that is known`,
      );
    }
    this.#usedBytes += CHUNK_BYTES;
    const byte = Math.floor(at / 8);
    if (byte >= this.#used.length) {
      const grown = new Uint8Array(Math.max(byte + 1, 2 * this.#used.length));
      grown.set(this.#used);
      this.#used = grown;
    }
    this.#used[byte] = (this.#used[byte] as number) | (1 << (at % 8));
  }

  #evicted(): Float64Array {
    const [[at, { numbers, changed }]] = this.#chunks as unknown as [[number, Chunk]];
    if (changed) this.#transfer('writing', (fd) => writeSync(fd, numbers, 0, CHUNK_BYTES, at * CHUNK_BYTES));
    this.#chunks.delete(at);
    return numbers;
  }

  #transfer(doing: string, move: (fd: number) => number): void {
    try {
      this.#fd ??= openNameless();
      if (move(this.#fd) !== CHUNK_BYTES) throw new Error('a part of it is missing');
    } catch (error) {
      throw new MapramError(
        'IO',
        `${doing} ${this.options.purpose} in ${os.tmpdir()}: ${errorReason(error)}; set TMPDIR to a directory with room for it`,
        { path: os.tmpdir(), cause: error },
      );
    }
  }
}

function openNameless(): number {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'mapram-numbers-'));
  try {
    return openSync(path.join(folder, 'numbers'), 'wx+', 0o600);
  } finally {
    rmSync(folder, { recursive: true });
  }
}
