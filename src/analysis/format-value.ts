import type { DecodedValue, Undecoded } from '../stream/device-decoder.js';

const MAX_BYTES = 32;
const MAX_ELEMENTS = 16;

/** One value in one line; long ones are cut. */
export function formatValue(value: DecodedValue, type: string): string {
  if (value === null) return 'null';
  if (value instanceof Uint8Array) return formatBytes(value);
  if (Array.isArray(value)) {
    const shown = value.slice(0, MAX_ELEMENTS).map((element) => formatValue(element, type));
    const more = value.length > MAX_ELEMENTS ? `, … ${value.length} in all` : '';
    return `[${shown.join(', ')}${more}]`;
  }
  if (typeof value === 'object') return value.kind === 'undecoded' ? formatUndecoded(value) : value.vmsdName;
  if (type === 'timer') return value === -1n ? 'not armed' : `${value} ns`;
  if (typeof value === 'number' && /^u?int/.test(type) && value > 9)
    return `${value} (0x${value.toString(16)})`;
  if (typeof value === 'bigint' && value > 9n) return `${value} (0x${value.toString(16)})`;
  return String(value);
}

/** Why bytes could not be decoded, where they are, and how they begin. */
export function formatUndecoded({ reason, offset, length, bytes: raw }: Undecoded): string {
  return `(${reason}; ${length} bytes at ${offset}) ${formatBytes(raw)}`;
}

/** Hexadecimal digits, of long ones the first. */
export function formatBytes(raw: Uint8Array): string {
  const hex = Buffer.from(raw.subarray(0, MAX_BYTES)).toString('hex');
  return raw.length > MAX_BYTES ? `${hex}… ${raw.length} bytes` : hex;
}
