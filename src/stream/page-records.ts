/**
 * The records of pages in a RAM section:
 *
 * ```
 * be64 offset in the block | flags    str8 name of the block, unless CONTINUE is set    contents, by the flags
 * ```
 */
import { RamFlag } from './format.js';

/** Bytes of the record of a page that continues the block of the record before it, without the page. */
export const PAGE_WORD_BYTES = 8;
/** Bytes of the record of a zero page: the word and the fill byte. */
export const ZERO_RECORD_BYTES = 9;

/** The most that a block's name adds to the first record that names it. */
export const BLOCK_NAME_BYTES = 1 + 255;

/**
 * Encodes records into memory given by the caller. One for each stream: it knows which block the last record was for, and a
 * record for the same one does not name it.
 */
export class RecordEncoder {
  #block: string | undefined;

  /**
   * The record of a page with its contents.
   *
   * @param offset of the page in the block
   * @param target must have room at `at` for `BLOCK_NAME_BYTES`, `PAGE_WORD_BYTES` and the page
   * @returns where the record ends
   */
  page(target: Buffer, at: number, block: string, offset: number, page: Uint8Array): number {
    const end = this.word(target, at, block, offset, RamFlag.PAGE);
    target.set(page, end);
    return end + page.length;
  }

  /** As `page`, of a zero page; room for `BLOCK_NAME_BYTES` and `ZERO_RECORD_BYTES`. */
  zeroPage(target: Buffer, at: number, block: string, offset: number): number {
    const end = this.word(target, at, block, offset, RamFlag.ZERO);
    target[end] = 0;
    return end + 1;
  }

  /** As `page`, of what each record begins with; its contents belong where it ends. */
  word(target: Buffer, at: number, block: string, offset: number, flag: number): number {
    const same = block === this.#block;
    target.writeUInt32BE(Math.floor(offset / 2 ** 32), at);
    target.writeUInt32BE((offset % 2 ** 32) + flag + (same ? RamFlag.CONTINUE : 0), at + 4);
    if (same) return at + PAGE_WORD_BYTES;
    this.#block = block;
    const name = new TextEncoder().encode(block);
    target[at + PAGE_WORD_BYTES] = name.length;
    target.set(name, at + PAGE_WORD_BYTES + 1);
    return at + PAGE_WORD_BYTES + 1 + name.length;
  }
}
