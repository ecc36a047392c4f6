/**
 * What the builtin guest writes into its pages, as a pure function of small numbers, and the checksum that tells
 * whether all of it is still there.
 */
import { crc32 } from 'node:zlib';
import { type MemoryPattern, PAGE_SIZE } from './options.js';

const STRIPE_PAGES = 2 ** 20 / PAGE_SIZE;
/** Pages in a row of one kind in pattern `mixed`. */
const KIND_PAGES = 64;
const WORDS = PAGE_SIZE / 4;
const ZERO_PAGE_CRC = crc32(new Uint8Array(PAGE_SIZE));

/** Spreads a 32-bit number over all 32 bits (the finalizer of MurmurHash3). */
export function mix(value: number): number {
  let h = value | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

/** Fills a page with bytes that do not compress. Xorshift, 32 bits. */
export function fillRandom(page: Uint32Array, seed: number): void {
  let x = mix(seed) || 1;
  for (let word = 0; word < WORDS; word += 1) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    page[word] = x;
  }
}

/** Whether the pattern fills this page's stripe: `fill` percent of the stripes do, evenly spread. */
export function isFilled(pageIndex: number, pattern: MemoryPattern, fill: number): boolean {
  if (pattern === 'zero') return false;
  const stripe = Math.floor(pageIndex / STRIPE_PAGES);
  return Math.floor(((stripe + 1) * fill) / 100) > Math.floor((stripe * fill) / 100);
}

/** The first content of a page in a filled stripe. */
export function fillInitial(
  page: Uint32Array,
  pageIndex: number,
  pattern: MemoryPattern,
  seed: number,
): void {
  const pageSeed = mix(seed ^ mix(pageIndex + 1));
  const kind = pattern === 'random' ? 0 : Math.floor(pageIndex / KIND_PAGES) % 4;
  if (kind === 3) page.fill(0);
  else if (kind === 2) page.fill(pageSeed);
  else fillRandom(page, pageSeed);
}

/**
 * A page's share in the checksum of all memory, which is the XOR of the shares. It depends on where the page is, so
 * that exchanged pages show; a zero page has 0, so that holes need not be read.
 */
export function pageHash(page: Uint8Array, pageIndex: number): number {
  const crc = crc32(page);
  return crc === ZERO_PAGE_CRC ? 0 : mix(crc ^ Math.imul(pageIndex + 1, 0x9e3779b1));
}
