import { MapramError } from '../errors.js';

/**
 * XBZRLE: a page as its difference from what it was before.
 *
 * ```text
 * { uleb128 count of unchanged bytes, uleb128 count of changed bytes, the changed bytes } …
 * ```
 *
 * Counts take at most two bytes, i.e. 14 bits. The first count of unchanged bytes may be 0. What lies behind the
 * last changed bytes is unchanged.
 */

/** Largest count in two bytes of uleb128. */
const MAX_COUNT = 0x3fff;

/**
 * Applies `encoded` to `page`, which holds the page's content so far.
 *
 * @throws MapramError `FORMAT` when the encoding is broken or reaches past the page; `page` is then partly changed
 */
export function decodeXbzrle(encoded: Uint8Array, page: Uint8Array): void {
  let from = 0;
  let to = 0;
  const count = (): number => {
    const low = encoded[from];
    if (low === undefined) throw broken('a count is missing');
    from++;
    if (low < 0x80) return low;
    const high = encoded[from];
    if (high === undefined || high >= 0x80) throw broken('a count has more than two bytes');
    from++;
    return (low & 0x7f) | (high << 7);
  };
  while (from < encoded.byteLength) {
    const unchanged = count();
    if (unchanged === 0 && to > 0) throw broken('a run of no unchanged bytes');
    to += unchanged;
    const changed = count();
    if (changed === 0) throw broken('a run of no changed bytes');
    if (from + changed > encoded.byteLength) throw broken('changed bytes are missing');
    if (to + changed > page.byteLength) throw broken(`it reaches past the page of ${page.byteLength} bytes`);
    page.set(encoded.subarray(from, from + changed), to);
    from += changed;
    to += changed;
  }
}

/**
 * The difference from `before` to `after`, pages of the same length of at most 16 KiB. Empty for equal pages.
 * `undefined` when it would be longer than the page itself, which is then better sent whole.
 */
export function encodeXbzrle(before: Uint8Array, after: Uint8Array): Uint8Array | undefined {
  const { byteLength } = after;
  if (before.byteLength !== byteLength || byteLength > MAX_COUNT + 1) {
    throw new RangeError(`pages of ${before.byteLength} and ${byteLength} bytes cannot be compared`);
  }
  const encoded = new Uint8Array(byteLength + 4);
  let length = 0;
  const count = (value: number) => {
    if (value < 0x80) encoded[length++] = value;
    else {
      encoded[length++] = (value & 0x7f) | 0x80;
      encoded[length++] = value >> 7;
    }
  };
  for (let at = 0; at < byteLength; ) {
    const start = at;
    while (at < byteLength && before[at] === after[at]) at++;
    if (at === byteLength) break;
    const changed = at;
    while (at < byteLength && before[at] !== after[at] && at - changed < MAX_COUNT) at++;
    if (length + 4 + (at - changed) > byteLength) return undefined;
    count(changed - start);
    count(at - changed);
    encoded.set(after.subarray(changed, at), length);
    length += at - changed;
  }
  return encoded.subarray(0, length);
}

function broken(problem: string): MapramError {
  return new MapramError('FORMAT', `decoding an XBZRLE page: ${problem}; the stream is damaged`);
}
