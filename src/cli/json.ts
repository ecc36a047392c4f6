import { visibleJson } from '../visible.js';

/**
 * One line of JSON. Beyond what JSON.stringify takes: bigint becomes an integer with all its digits (as QEMU writes
 * 64-bit values), and bytes become lower-case hex. Characters that steer a terminal are escapes.
 */
export function toJsonLine(value: unknown): string {
  return visibleJson(serialize(value) ?? 'null');
}

function serialize(value: unknown): string | undefined {
  if (typeof value === 'bigint') return value.toString();
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  if (value instanceof Uint8Array) return JSON.stringify(Buffer.from(value).toString('hex'));
  if (Array.isArray(value)) return `[${value.map((item) => serialize(item) ?? 'null').join(',')}]`;
  const members: string[] = [];
  for (const [key, member] of Object.entries(value)) {
    const text = serialize(member);
    if (text !== undefined) members.push(`${JSON.stringify(key)}:${text}`);
  }
  return `{${members.join(',')}}`;
}
