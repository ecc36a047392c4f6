/** Sizes and integers as QEMU's human monitor and its URIs read them. */

const SUFFIXES = 'bkmgtpe';
const UINT64_MAX = 2n ** 64n - 1n;

export type SizeText = { readonly bytes: bigint } | { readonly fault: 'malformed' | 'out of range' };

/**
 * Reads `4096`, `0x1000`, `1k`, `1.5G`: a decimal number with an optional suffix (b k M G T P E, powers of 1024,
 * either case), or a hexadecimal one without. A fraction needs a unit above bytes and is rounded down.
 *
 * @param unit what a number without suffix counts
 */
export function parseSizeText(text: string, unit: 'b' | 'm' = 'b'): SizeText {
  const match = /^[ \t\n\v\f\r]*([+-]?)(?:0[xX]([0-9a-fA-F]+)|(\d*)(?:\.(\d*))?([bkmgtpeBKMGTPE]?))$/.exec(
    text,
  );
  if (match === null) return { fault: 'malformed' };
  const [, sign, hex, whole = '', fraction = '', suffix = ''] = match;
  if (hex === undefined && whole === '' && fraction === '') return { fault: 'malformed' };
  const exponent = SUFFIXES.indexOf(suffix.toLowerCase() || unit);
  const multiplier = 1n << BigInt(10 * exponent);
  const integer = hex === undefined ? BigInt(whole || '0') : BigInt(`0x${hex}`);
  // Out of range before the suffix was looked at: only a number that stands alone is called so.
  if (sign === '-' || integer > UINT64_MAX) {
    const alone = suffix === '' && !match[0].includes('.');
    return { fault: alone ? 'out of range' : 'malformed' };
  }
  const hasFraction = /[1-9]/.test(fraction);
  if (hasFraction && multiplier === 1n) return { fault: 'malformed' };
  const part = hasFraction ? BigInt(Math.floor(Number(`0.${fraction}`) * Number(multiplier))) : 0n;
  const bytes = integer * multiplier + part;
  if (bytes > UINT64_MAX) return { fault: 'out of range' };
  return { bytes };
}

/**
 * Reads a decimal, hexadecimal (`0x10`) or octal (`010`) integer; a negative one is its 64-bit complement.
 *
 * @returns undefined when it is none, or does not fit 64 bits
 */
export function parseIntegerText(text: string): bigint | undefined {
  const match = /^[ \t\n\v\f\r]*([+-]?)(?:0[xX]([0-9a-fA-F]+)|0([0-7]+)|(0|[1-9]\d*))$/.exec(text);
  if (match === null) return undefined;
  const [, sign, hex, octal, decimal] = match;
  const digits = hex !== undefined ? `0x${hex}` : octal !== undefined ? `0o${octal}` : (decimal as string);
  const magnitude = BigInt(digits);
  if (magnitude > UINT64_MAX) return undefined;
  return sign === '-' ? BigInt.asUintN(64, -magnitude) : magnitude;
}
