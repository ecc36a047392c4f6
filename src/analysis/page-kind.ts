/** What a page looks like, guessed from a sample of it. */
export const PAGE_KINDS = ['zero', 'text', 'code', 'data', 'dense', 'stale'] as const;

/**
 * - `zero`: nothing but zeros, or not in the file
 * - `text`: mostly printable characters
 * - `code`: the bytes that machine code is full of
 * - `data`: anything else
 * - `dense`: high entropy, i.e. compressed, encrypted or random
 * - `stale`: zero for the guest, while its slot in the file holds what the page was before
 */
export type PageKind = (typeof PAGE_KINDS)[number];

export const KIND_NUMBER: Readonly<Record<PageKind, number>> = {
  zero: 0,
  text: 1,
  code: 2,
  data: 3,
  dense: 4,
  stale: 5,
};

/** Sampled of a page: pieces of this many bytes, spread evenly. */
const PIECES = 8;
const PIECE_BYTES = 64;

/** Different byte values in 512 random bytes: 222 on average, practically never below 200. */
const DENSE_VALUES = 192;
const TEXT_SHARE = 0.9;
/** Least part of a sample that is not zero, for text and code: tables of pointers have more zeros. */
const FILLED_SHARE = 0.4;
const CODE_SHARE = 0.3;

/** Bytes that are frequent in x86 code and rare elsewhere: REX prefixes, mov, lea, call, jumps, test, ret, int3. */
const X86_CODE = flags([
  0x0f, 0x24, 0x31, 0x39, 0x41, 0x44, 0x45, 0x48, 0x49, 0x4c, 0x4d, 0x74, 0x75, 0x83, 0x84, 0x85, 0x89, 0x8b,
  0x8d, 0x90, 0xc0, 0xc3, 0xc7, 0xcc, 0xe8, 0xe9, 0xeb, 0xff,
]);

const TEXT = flags([9, 10, 13, ...Array.from({ length: 0x7f - 0x20 }, (_, index) => 0x20 + index)]);

function flags(values: readonly number[]): Uint8Array {
  const table = new Uint8Array(256);
  for (const value of values) table[value] = 1;
  return table;
}

const counts = new Uint16Array(256);

/** What kind of contents a page has. `page` is at least 512 bytes long. */
export function kindOfPage(page: Buffer): Exclude<PageKind, 'stale'> {
  counts.fill(0);
  const stride = Math.max(PIECE_BYTES, Math.floor(page.length / PIECES));
  let sampled = 0;
  for (let piece = 0; piece < page.length; piece += stride) {
    const end = Math.min(piece + PIECE_BYTES, page.length);
    for (let at = piece; at < end; at++) {
      const byte = page[at] as number;
      counts[byte] = (counts[byte] as number) + 1;
    }
    sampled += end - piece;
  }
  const filled = sampled - (counts[0] as number);
  if (filled === 0) return page.every((byte) => byte === 0) ? 'zero' : 'data';
  let values = 0;
  let text = 0;
  let code = 0;
  for (let byte = 0; byte < 256; byte++) {
    const count = counts[byte] as number;
    if (count === 0) continue;
    values++;
    if (TEXT[byte] === 1) text += count;
    if (X86_CODE[byte] === 1) code += count;
  }
  if (values >= DENSE_VALUES) return 'dense';
  if (filled < sampled * FILLED_SHARE) return 'data';
  if (text >= filled * TEXT_SHARE) return 'text';
  return code >= filled * CODE_SHARE && values > 24 ? 'code' : 'data';
}
