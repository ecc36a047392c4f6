import {
  type DecodedDevice,
  type DecodedStruct,
  type DecodedValue,
  decodeDevice,
} from '../stream/device-decoder.js';
import type { DeviceSection } from '../stream/device-sections.js';
import type { Count } from '../units.js';

/** What became of one value of a device. */
export interface FieldChange {
  /** Like `env.regs[3]` or `config[0x10..0x13]`; empty for the whole of a device that is not described. */
  readonly path: string;
  /** QEMU's name of the type. */
  readonly type: string;
  /** Absent where the field was not there. */
  readonly before?: LeafValue;
  readonly after?: LeafValue;
}

export type LeafValue = boolean | number | bigint | string | null | Uint8Array;

export interface DeviceComparison {
  readonly idstr: string;
  readonly instanceId: Count;
  readonly status: 'different' | 'only-before' | 'only-after';
  readonly changes: readonly FieldChange[];
}

interface Leaf {
  type: string;
  value: LeafValue;
}

/** Differences within bytes that are closer than this are shown as one. */
const MERGED_BYTES = 4;

/** Bytes with more separate differences than this are shown as a whole. */
const MAX_BYTE_RUNS = 64;

/** The devices that differ, in the order of the older file. */
export function compareDevices(
  before: readonly DeviceSection[],
  after: readonly DeviceSection[],
): DeviceComparison[] {
  const [old, now] = [byIdentity(before), byIdentity(after)];
  const result: DeviceComparison[] = [];
  for (const [key, section] of old) {
    const { idstr, instanceId } = section;
    const other = now.get(key);
    if (other === undefined) {
      result.push({ idstr, instanceId, status: 'only-before', changes: [] });
      continue;
    }
    const changes = compareSections(section, other);
    if (changes.length > 0) result.push({ idstr, instanceId, status: 'different', changes });
  }
  for (const [key, { idstr, instanceId }] of now) {
    if (!old.has(key)) result.push({ idstr, instanceId, status: 'only-after', changes: [] });
  }
  return result;
}

/** Sections by name and instance. The PART and END sections of one device are told apart by their order. */
function byIdentity(sections: readonly DeviceSection[]): Map<string, DeviceSection> {
  const result = new Map<string, DeviceSection>();
  for (const section of sections) {
    const name = `${section.idstr}\0${section.instanceId}`;
    let key = name;
    for (let count = 2; result.has(key); count++) key = `${name}\0${count}`;
    result.set(key, section);
  }
  return result;
}

function compareSections(before: DeviceSection, after: DeviceSection): FieldChange[] {
  if (before.versionId === after.versionId && Buffer.compare(before.data, after.data) === 0) return [];
  const version: FieldChange[] =
    before.versionId === after.versionId
      ? []
      : [{ path: '(version)', type: 'uint32', before: before.versionId, after: after.versionId }];
  if (before.description === undefined || after.description === undefined) {
    return [...version, ...compareBytes('', 'buffer', before.data, after.data)];
  }
  const old = leavesOf(decodeDevice(before.description, before.data));
  const now = leavesOf(decodeDevice(after.description, after.data));
  return [...version, ...compareLeaves(old, now)];
}

function* compareLeaves(before: Map<string, Leaf>, after: Map<string, Leaf>): Generator<FieldChange> {
  for (const [path, { type, value }] of before) {
    const other = after.get(path);
    if (other === undefined) yield { path, type, before: value };
    else if (value instanceof Uint8Array && other.value instanceof Uint8Array) {
      yield* compareBytes(path, type, value, other.value);
    } else if (value !== other.value) yield { path, type, before: value, after: other.value };
  }
  for (const [path, { type, value }] of after) if (!before.has(path)) yield { path, type, after: value };
}

function compareBytes(path: string, type: string, before: Uint8Array, after: Uint8Array): FieldChange[] {
  if (Buffer.compare(before, after) === 0) return [];
  const whole = [{ path, type, before, after }];
  if (before.byteLength !== after.byteLength) return whole;
  const runs: [start: number, end: number][] = [];
  for (let at = 0; at < before.byteLength; at++) {
    if (before[at] === after[at]) continue;
    const last = runs.at(-1);
    if (last !== undefined && at - last[1] < MERGED_BYTES) last[1] = at + 1;
    else runs.push([at, at + 1]);
    if (runs.length > MAX_BYTE_RUNS) return whole;
  }
  const hex = (offset: number) => `0x${offset.toString(16)}`;
  return runs.map(([start, end]) => ({
    path: `${path}[${hex(start)}${end - start > 1 ? `..${hex(end - 1)}` : ''}]`,
    type,
    before: before.subarray(start, end),
    after: after.subarray(start, end),
  }));
}

/** The values of a device by their paths. */
function leavesOf(device: DecodedDevice): Map<string, Leaf> {
  const leaves = new Map<string, Leaf>();
  const add = (path: string, leaf: Leaf) => {
    let key = path;
    for (let count = 2; leaves.has(key); count++) key = `${path}#${count}`;
    leaves.set(key, leaf);
  };
  const addValue = (path: string, type: string, value: DecodedValue): void => {
    if (Array.isArray(value)) {
      for (const [index, element] of value.entries()) addValue(`${path}[${index}]`, type, element);
    } else if (typeof value !== 'object' || value === null || value instanceof Uint8Array) {
      add(path, { type, value });
    } else if (value.kind === 'undecoded') add(path, { type: 'undecoded', value: value.bytes });
    else addStruct(path, value);
  };
  const addStruct = (path: string, { fields, subsections }: DecodedStruct): void => {
    const inside = (name: string) => (path === '' ? name : `${path}.${name}`);
    for (const { name, type, value } of fields) addValue(inside(name), type, value);
    for (const part of subsections) {
      const name = part.kind === 'struct' ? part.vmsdName : '(subsection)';
      addValue(inside(name), 'struct', part);
    }
  };
  addStruct('', device);
  if (device.rest !== undefined) add('(rest)', { type: 'undecoded', value: device.rest.bytes });
  return leaves;
}
