import type { DecodedDevice, DecodedStruct, DecodedValue, Undecoded } from './device-decoder.js';

/**
 * Device state as plain values: structs are objects by field name, arrays are arrays, 64-bit integers are bigint, raw bytes
 * are Uint8Array. What could not be decoded is `{ undecoded: reason, offset, length, bytes }`, its place
 * counted from the start of the device's data.
 */
export type DeviceValue =
  | boolean
  | number
  | bigint
  | string
  | null
  | Uint8Array
  | DeviceValue[]
  | { [name: string]: DeviceValue };

/** A struct's fields by name; its subsections follow under their full names. */
export function deviceValues(decoded: DecodedStruct | DecodedDevice): { [name: string]: DeviceValue } {
  const values: { [name: string]: DeviceValue } = {};
  const add = (name: string, value: DeviceValue) => {
    let key = name;
    for (let count = 2; Object.hasOwn(values, key); count += 1) key = `${name}#${count}`;
    // `__proto__` is a name like any other here.
    Object.defineProperty(values, key, { value, enumerable: true, configurable: true, writable: true });
  };
  for (const field of decoded.fields) add(field.name, deviceValue(field.value));
  for (const part of decoded.subsections) {
    add(part.kind === 'struct' ? part.vmsdName : '(subsection)', deviceValue(part));
  }
  if ('rest' in decoded && decoded.rest !== undefined) add('(rest)', undecodedValue(decoded.rest));
  return values;
}

function undecodedValue({ reason, offset, length, bytes }: Undecoded): DeviceValue {
  return { undecoded: reason, offset, length, bytes };
}

function deviceValue(value: DecodedValue | DecodedStruct | Undecoded): DeviceValue {
  if (value === null || typeof value !== 'object' || value instanceof Uint8Array) return value;
  if (Array.isArray(value)) return value.map(deviceValue);
  return value.kind === 'struct' ? deviceValues(value) : undecodedValue(value);
}
