/** Byte sizes as people write and read them: `256M`, `1.5 GiB`. All units are powers of 1024, as in QEMU. */
const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'] as const;
const SUFFIXES = 'kmgtp';

/**
 * Reads `4096`, `64K`, `1.5G` or `256MiB` (either case) as bytes.
 *
 * @returns undefined when the text is no size, is not a whole number of bytes or passes 2^53 - 1.
 */
export function parseSize(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)(?:([kmgtp])(?:i?b)?|b)?$/i.exec(text.trim());
  if (match?.[1] === undefined) return undefined;
  const exponent = match[2] === undefined ? 0 : SUFFIXES.indexOf(match[2].toLowerCase()) + 1;
  const bytes = Number(match[1]) * 1024 ** exponent;
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

/** `1536` → `1.5 KiB`: three significant digits, the largest unit that keeps the number at 1 or more. */
export function formatSize(bytes: number): string {
  let unit = 0;
  let value = bytes;
  // 999.5 would print as 1000: one unit up reads better.
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  return `${Number(value.toFixed(digits))} ${UNITS[unit]}`;
}
