/** JSON as a user of the library meets it: doubles are plain numbers. */
import { JsonDouble, type JsonValue } from './json-value.js';
export type PlainJson =
  | null
  | boolean
  | number
  | bigint
  | string
  | PlainJson[]
  | { [key: string]: PlainJson };

/** Replaces tagged doubles by numbers, in a new value. */
export function toPlainJson(value: JsonValue): PlainJson {
  if (value instanceof JsonDouble) return value.value;
  if (Array.isArray(value)) return value.map(toPlainJson);
  if (typeof value === 'object' && value !== null) {
    return Object.fromEntries(Object.entries(value).map(([key, member]) => [key, toPlainJson(member)]));
  }
  return value;
}
