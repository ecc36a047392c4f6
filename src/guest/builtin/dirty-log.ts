/**
 * Which pages of one RAM block were written, one bit a page, shared between the thread that writes and the one that
 * copies. The writer marks a page after it wrote it, so a fetched bit stands for a write that can be seen.
 */
export class DirtyLog {
  readonly #words: Int32Array;

  /** @param buffer of `DirtyLog.bytesFor(pages)` bytes, the same in both threads */
  constructor(readonly buffer: SharedArrayBuffer) {
    this.#words = new Int32Array(buffer);
  }

  static bytesFor(pages: number): number {
    return Math.ceil(pages / 32) * 4;
  }

  mark(page: number): void {
    Atomics.or(this.#words, page >>> 5, 1 << (page & 31));
  }

  clear(): void {
    for (let index = 0; index < this.#words.length; index += 1) Atomics.store(this.#words, index, 0);
  }

  /**
   * Moves the set bits into `into`, least significant bit first.
   *
   * @returns how many there were
   */
  fetch(into: Uint8Array): number {
    let count = 0;
    for (let index = 0; index < this.#words.length; index += 1) {
      if (Atomics.load(this.#words, index) === 0) continue;
      const word = Atomics.exchange(this.#words, index, 0);
      for (let byte = 0; byte < 4; byte += 1) {
        const bits = (word >>> (byte * 8)) & 0xff;
        if (bits === 0) continue;
        into[index * 4 + byte] = (into[index * 4 + byte] ?? 0) | bits;
        count += bitsSet(bits);
      }
    }
    return count;
  }
}

function bitsSet(byte: number): number {
  let count = 0;
  for (let rest = byte; rest !== 0; rest &= rest - 1) count += 1;
  return count;
}
