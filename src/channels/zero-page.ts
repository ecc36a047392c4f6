/** Bytes that one comparison covers; larger pages take several. */
const BLOCK = 4096;
const ZEROS = Buffer.alloc(BLOCK);

/**
 * Whether `length` bytes at `offset` of `memory` are all zero. `offset` and `length` are multiples of 4.
 *
 * Two words are looked at in JavaScript before anything is called: most pages that are not zero are left at the
 * first one, which makes this many times faster than comparing all of them.
 */
export function isZeroPage(memory: Buffer, words: Int32Array, offset: number, length: number): boolean {
  if (words[offset >> 2] !== 0 || words[(offset + length - 4) >> 2] !== 0) return false;
  for (let done = 0; done < length; done += BLOCK) {
    const size = Math.min(BLOCK, length - done);
    if (memory.compare(ZEROS, 0, size, offset + done, offset + done + size) !== 0) return false;
  }
  return true;
}

/** The same bytes as 32-bit words, for `isZeroPage`. `memory` must begin at a multiple of 4. */
export function wordsOf(memory: Buffer): Int32Array {
  return new Int32Array(memory.buffer, memory.byteOffset, memory.length >> 2);
}
