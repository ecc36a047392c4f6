import {
  type DecodedDevice,
  type DecodedStruct,
  type DecodedValue,
  decodeDevice,
} from '../stream/device-decoder.js';
import type { SavedVm } from './saved-vm.js';

/** The devices of that name whose fields the file describes, in the order of their instances. */
export function devicesNamed(saved: SavedVm, idstr: string): DecodedDevice[] {
  return saved.devices
    .filter((section) => section.idstr === idstr && section.description !== undefined)
    .sort((one, other) => one.instanceId - other.instanceId)
    .flatMap(({ description, data }) => (description === undefined ? [] : [decodeDevice(description, data)]));
}

/** The first instance of a device. */
export function firstDevice(saved: SavedVm, idstr: string): DecodedDevice | undefined {
  return devicesNamed(saved, idstr)[0];
}

/** A field or subsection of a struct by its name. */
export function fieldOf(struct: DecodedStruct, name: string): DecodedValue | undefined {
  return struct.fields.find((field) => field.name === name)?.value;
}

/** An integer field as 64 bits; 0 where it is absent. */
export function integerOf(struct: DecodedStruct | undefined, name: string): bigint {
  return struct === undefined ? 0n : toInteger(fieldOf(struct, name));
}

/** The integers of an array; `length` of them, 0 where they are absent. */
export function integersOf(struct: DecodedStruct, name: string, length: number): bigint[] {
  const value = fieldOf(struct, name);
  return Array.from({ length }, (_, index) => (Array.isArray(value) ? toInteger(value[index]) : 0n));
}

/** The structs of an array. */
export function structsOf(struct: DecodedStruct, name: string): DecodedStruct[] {
  const value = fieldOf(struct, name);
  return (Array.isArray(value) ? value : [value]).filter(isStruct);
}

function isStruct(value: DecodedValue | undefined): value is DecodedStruct {
  return typeof value === 'object' && value !== null && 'kind' in value && value.kind === 'struct';
}

function toInteger(value: DecodedValue | undefined): bigint {
  if (typeof value === 'bigint') return BigInt.asUintN(64, value);
  if (typeof value === 'number' && Number.isInteger(value)) return BigInt.asUintN(64, BigInt(value));
  return 0n;
}
