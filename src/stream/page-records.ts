/** Records of pages, many at a time, in memory given by the caller: `StreamWriter` makes one object a record. */
import { RamFlag } from './format.js';

/** Bytes of the record of a page that continues the block of the record before it, without the page. */
export const PAGE_WORD_BYTES = 8;
/** Bytes of the record of a zero page: the word and the fill byte. */
export const ZERO_RECORD_BYTES = 9;

/** The most that a block's name adds to the first record that names it. */
export const BLOCK_NAME_BYTES = 1 + 255;

/**
 * Which block the last record of a stream was for: a record for the same one need not name it. One for each stream.
 */
export class RecordEncoder {
  #block: string | undefined;
  #name = new Uint8Array(0);

  /**
   * Writes records of whole pages to `target` from `at` on.
   *
   * @param offset of the first page in the block
   * @param pages the pages, one behind the other
   * @param target must have room for `BLOCK_NAME_BYTES` and, for each page, `PAGE_WORD_BYTES` and the page
   * @returns where the records end
   */
  pages(
    target: Buffer,
    at: number,
    block: string,
    offset: number,
    pages: Uint8Array,
    pageSize: number,
  ): number {
    let end = at;
    for (let done = 0; done < pages.length; done += pageSize) {
      end = this.#word(target, end, block, offset + done, RamFlag.PAGE);
      target.set(pages.subarray(done, done + pageSize), end);
      end += pageSize;
    }
    return end;
  }

  /** As `pages`, of `count` zero pages; room for `ZERO_RECORD_BYTES` each. */
  zeroPages(
    target: Buffer,
    at: number,
    block: string,
    offset: number,
    count: number,
    pageSize: number,
  ): number {
    let end = at;
    for (let page = 0; page < count; page++) {
      end = this.#word(target, end, block, offset + page * pageSize, RamFlag.ZERO);
      target[end++] = 0;
    }
    return end;
  }

  #word(target: Buffer, at: number, block: string, offset: number, flag: number): number {
    const same = block === this.#block;
    target.writeUInt32BE(Math.floor(offset / 2 ** 32), at);
    target.writeUInt32BE((offset % 2 ** 32) + flag + (same ? RamFlag.CONTINUE : 0), at + 4);
    if (same) return at + PAGE_WORD_BYTES;
    this.#block = block;
    this.#name = new TextEncoder().encode(block);
    target[at + PAGE_WORD_BYTES] = this.#name.length;
    target.set(this.#name, at + PAGE_WORD_BYTES + 1);
    return at + PAGE_WORD_BYTES + 1 + this.#name.length;
  }
}
