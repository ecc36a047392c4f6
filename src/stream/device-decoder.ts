import { SectionType } from './format.js';
import {
  type DeviceDescription,
  describedBytes,
  type FieldDescription,
  type StructDescription,
  subsectionHeaderBytes,
} from './vmdescription.js';

/** A device section's data taken apart by its description. Offsets count from the start of the data. */
export interface DecodedDevice extends DecodedStruct {
  name: string;
  instanceId: number;
  /** Bytes behind what the description covers; absent in a sound section. */
  rest?: Undecoded;
}

export interface DecodedStruct {
  kind: 'struct';
  vmsdName: string;
  version: number;
  offset: number;
  length: number;
  fields: DecodedField[];
  subsections: (DecodedStruct | Undecoded)[];
}

export interface DecodedField {
  name: string;
  /** QEMU's name of the type, e.g. `uint32`, `timer`, `pci config`, `struct`. */
  type: string;
  offset: number;
  length: number;
  value: DecodedValue;
}

/**
 * - `boolean`: `bool`
 * - `number`: integers of up to 32 bits, `CPU_Double_U`
 * - `bigint`: 64-bit integers, and `timer` in ns of the virtual clock, -1n when not armed
 * - `string`: `capability`
 * - `null`: a null pointer in an array of pointers
 * - `Uint8Array`: `buffer`, `bitmap`, `pci config` and other raw bytes
 * - an array: fields with several elements, lists and trees
 */
export type DecodedValue =
  | boolean
  | number
  | bigint
  | string
  | null
  | Uint8Array
  | DecodedStruct
  | Undecoded
  | DecodedValue[];

/** Bytes that the description does not explain. */
export interface Undecoded {
  kind: 'undecoded';
  reason: string;
  offset: number;
  length: number;
  bytes: Uint8Array;
}

/** Bound on the values of one device, so that a hostile description cannot ask for endless work. */
const MAX_VALUES = 1_000_000;

/**
 * Takes `data` of the section of a device apart. Never throws: what cannot be decoded is in the tree as bytes
 * with the reason, and what follows it is decoded all the same as long as sizes tell where it starts.
 */
export function decodeDevice(description: DeviceDescription, data: Uint8Array): DecodedDevice {
  const decoder = new Decoder(data);
  const { size } = description;
  const oldStyle = description.fields.length === 0 && size !== undefined;
  const decoded = oldStyle
    ? decoder.struct({ ...description, fields: [{ name: 'data', type: 'buffer', size, inlined: [] }] }, 0)
    : decoder.struct(description, 0);
  const device: DecodedDevice = { name: description.name, instanceId: description.instanceId, ...decoded };
  if (decoded.length < data.byteLength) {
    device.rest = decoder.undecoded(
      'the description ends before the data',
      decoded.length,
      data.byteLength - decoded.length,
    );
  }
  return device;
}

const TOO_MANY_VALUES = `the device has more than ${MAX_VALUES} values`;

const utf8 = new TextDecoder();

type ScalarReader = (view: DataView, bytes: Uint8Array) => DecodedValue;

/** Integers by their base type; `X equal` and `X le` have the same bytes, their loaders only compare. */
const INTEGERS: Readonly<Record<string, { size: number; read: ScalarReader }>> = {
  bool: { size: 1, read: (view) => view.getUint8(0) !== 0 },
  int8: { size: 1, read: (view) => view.getInt8(0) },
  int16: { size: 2, read: (view) => view.getInt16(0) },
  int32: { size: 4, read: (view) => view.getInt32(0) },
  int64: { size: 8, read: (view) => view.getBigInt64(0) },
  uint8: { size: 1, read: (view) => view.getUint8(0) },
  uint16: { size: 2, read: (view) => view.getUint16(0) },
  uint32: { size: 4, read: (view) => view.getUint32(0) },
  uint64: { size: 8, read: (view) => view.getBigUint64(0) },
  timer: { size: 8, read: (view) => view.getBigInt64(0) },
  CPU_Double_U: { size: 8, read: (view) => view.getFloat64(0) },
};

class Decoder {
  private values = 0;
  private readonly sizes = new Map<StructDescription, number>();

  constructor(private readonly data: Uint8Array) {}

  /** Decodes the struct at `offset`; its `length` is what it took of the data. */
  struct(description: StructDescription, offset: number): DecodedStruct {
    const decoded: DecodedStruct = {
      kind: 'struct',
      vmsdName: description.vmsdName,
      version: description.version,
      offset,
      length: 0,
      fields: [],
      subsections: [],
    };
    let at = offset;
    for (const group of elementGroups(description.fields)) {
      if (this.exhausted) break;
      const field = this.field(group, at);
      decoded.fields.push(field);
      at += field.length;
    }
    for (const subsection of description.subsections) {
      if (this.exhausted) break;
      const part = this.subsection(subsection, at);
      decoded.subsections.push(part);
      at += part.length;
    }
    if (this.exhausted) {
      const rest = this.undecoded(TOO_MANY_VALUES, at, offset + this.size(description) - at);
      decoded.fields.push({ name: '', type: '', offset: at, length: rest.length, value: rest });
      at += rest.length;
    }
    decoded.length = at - offset;
    return decoded;
  }

  undecoded(reason: string, offset: number, length: number): Undecoded {
    const bytes = this.data.subarray(offset, offset + length);
    return { kind: 'undecoded', reason, offset, length: bytes.byteLength, bytes };
  }

  private subsection(description: StructDescription, offset: number): DecodedStruct | Undecoded {
    const { vmsdName } = description;
    const header = subsectionHeaderBytes(vmsdName);
    const length = header + this.size(description);
    const head = this.data.subarray(offset, offset + header);
    const name = utf8.decode(head.subarray(2, head.byteLength - 4));
    if (head.byteLength < header || head[0] !== SectionType.SUBSECTION || name !== vmsdName) {
      return this.undecoded(`subsection ${vmsdName} is not where it is described`, offset, length);
    }
    const decoded = this.struct(description, offset + header);
    return { ...decoded, offset, length: header + decoded.length };
  }

  /** All elements that belong to one field: descriptions of the same name in a row. */
  private field(group: readonly FieldDescription[], offset: number): DecodedField {
    const [first] = group as [FieldDescription];
    const { name } = first;
    const type = group.find((element) => element.type !== 'nullptr')?.type ?? first.type;
    const isArray = group.length > 1 || first.index !== undefined || first.arrayLength !== undefined;
    const elements: DecodedValue[] = [];
    let at = offset;
    for (const element of group) {
      const { size } = element;
      const count = element.arrayLength ?? 1;
      const total = size * count;
      if (at + total > this.data.byteLength) {
        elements.push(this.undecoded(`the data end inside ${name}`, at, total));
        at = this.data.byteLength;
        break;
      }
      // Arrays of elements without size are empty: counting them up would be work for nothing.
      const decodable = size === 0 && element.arrayLength !== undefined ? 0 : count;
      for (let index = 0; index < decodable; index++) {
        const from = at + index * size;
        if (this.exhausted) {
          elements.push(this.undecoded(TOO_MANY_VALUES, from, at + total - from));
          break;
        }
        elements.push(this.value(element, from));
      }
      at += total;
    }
    const value = isArray ? elements : (elements[0] as DecodedValue);
    return { name, type, offset, length: at - offset, value };
  }

  private value(field: FieldDescription, offset: number): DecodedValue {
    this.values++;
    const { type, size, struct, inlined } = field;
    const bytes = this.data.subarray(offset, offset + size);
    if (struct !== undefined) return this.nested(struct, offset, size);
    const scalar = INTEGERS[type.replace(/ (equal|le)$/, '')];
    if (scalar !== undefined) {
      if (scalar.size !== size) return this.undecoded(`${type} of ${size} bytes`, offset, size);
      return scalar.read(new DataView(bytes.buffer, bytes.byteOffset, size), bytes);
    }
    switch (type) {
      case 'nullptr':
        return null;
      case 'capability':
        return bytes[0] === size - 1 ? utf8.decode(bytes.subarray(1)) : bytes;
      case 'qtailq':
      case 'qlist':
        return this.list(inlined, offset, size);
      case 'gtree':
        return this.tree(inlined, offset, size);
    }
    if (inlined.length === 1) return this.nested(inlined[0] as StructDescription, offset, size);
    return bytes;
  }

  private nested(description: StructDescription, offset: number, size: number): DecodedStruct | Undecoded {
    const described = this.size(description);
    if (described !== size) {
      const reason = `${description.vmsdName} is described with ${described} bytes but has ${size}`;
      return this.undecoded(reason, offset, size);
    }
    return this.struct(description, offset);
  }

  /** `{ 01, element } … 00`. */
  private list(elements: readonly StructDescription[], offset: number, size: number): DecodedValue {
    const values: DecodedValue[] = [];
    let at = offset;
    for (const element of elements) {
      const described = this.size(element);
      if (this.data[at] !== 1 || at + 1 + described >= offset + size) break;
      values.push(this.struct(element, at + 1));
      at += 1 + described;
    }
    if (this.data[at] === 0 && at + 1 === offset + size) return values;
    return this.undecoded('the list is not as described', offset, size);
  }

  /** `be32 count, { 01, key, value } … 00`, the key a be64 or a struct of its own. */
  private tree(nodes: readonly StructDescription[], offset: number, size: number): DecodedValue {
    const failed = () => this.undecoded('the tree is not as described', offset, size);
    if (size < 5) return failed();
    const view = new DataView(this.data.buffer, this.data.byteOffset + offset, size);
    const count = view.getUint32(0);
    const parts = count === 0 ? 0 : nodes.length / count;
    if (parts !== (count === 0 ? 0 : parts >= 2 ? 2 : 1)) return failed();
    const values: DecodedValue[] = [];
    let at = 4;
    for (let node = 0; node < count; node++) {
      const pair = nodes.slice(node * parts, (node + 1) * parts);
      const needed = 1 + (parts === 1 ? 8 : 0) + pair.reduce((total, part) => total + this.size(part), 0);
      if (at + needed >= size || view.getUint8(at) !== 1) return failed();
      const entry: DecodedValue[] = parts === 1 ? [view.getBigUint64(at + 1)] : [];
      let inner = at + 1 + (parts === 1 ? 8 : 0);
      for (const part of pair) {
        entry.push(this.struct(part, offset + inner));
        inner += this.size(part);
      }
      values.push(entry);
      at = inner;
    }
    return at + 1 === size && view.getUint8(at) === 0 ? values : failed();
  }

  private get exhausted(): boolean {
    return this.values > MAX_VALUES;
  }

  /** `describedBytes`, which elements of arrays ask for over and over. */
  private size(description: StructDescription): number {
    let size = this.sizes.get(description);
    if (size === undefined) {
      size = describedBytes(description);
      this.sizes.set(description, size);
    }
    return size;
  }
}

/** Fields in a row that share a name are the elements of one array. */
function elementGroups(fields: readonly FieldDescription[]): FieldDescription[][] {
  const groups: FieldDescription[][] = [];
  for (const field of fields) {
    const last = groups.at(-1);
    if (last?.[0]?.name === field.name) last.push(field);
    else groups.push([field]);
  }
  return groups;
}
