/** Writes JSON as QEMU does: `{"a": 1, "b": [true]}`, ASCII only, 64-bit integers in full. */

/** @param value anything that JSON holds; members that are `undefined` are left out, as with JSON.stringify */
import { JsonDouble } from './json-value.js';
export function writeJson(value: unknown): string {
  switch (typeof value) {
    case 'string':
      return writeString(value);
    case 'number':
      return Number.isFinite(value) ? String(value) : 'null';
    case 'bigint':
    case 'boolean':
      return String(value);
    case 'object':
      if (value === null) return 'null';
      if (value instanceof JsonDouble) return value.text;
      if (Array.isArray(value)) return `[${value.map(writeJson).join(', ')}]`;
      return `{${Object.entries(value)
        .filter(([, member]) => member !== undefined)
        .map(([key, member]) => `${writeString(key)}: ${writeJson(member)}`)
        .join(', ')}}`;
    default:
      return 'null';
  }
}

function writeString(text: string): string {
  return JSON.stringify(text).replace(/[\x7f-\uffff]/g, (char) => {
    const code = char.charCodeAt(0).toString(16).toUpperCase();
    return `\\u${code.padStart(4, '0')}`;
  });
}
