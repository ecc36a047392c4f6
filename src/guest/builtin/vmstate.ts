/**
 * Device state from declarations: one table a device gives the bytes of its section, their description for the
 * stream's trailing JSON, and the TypeScript type of its values.
 *
 * The bytes of a section's data are the fields in order, big-endian, then the subsections that are needed:
 *
 *     field, field, …, { 05, str8 "device/name", be32 version, field, … }, …
 */
import { ByteBuilder } from '../../stream/byte-builder.js';
import { SectionType } from '../../stream/format.js';

/** Integers that fit a `number`; their type names are QEMU's. */
const SMALL = {
  bool: 1,
  uint8: 1,
  int8: 1,
  uint16: 2,
  int16: 2,
  uint32: 4,
  int32: 4,
} as const;
/** Those that need a `bigint`. A timer is its expiry in ns, -1 when it is not armed. */
const LARGE = { uint64: 8, int64: 8, timer: 8 } as const;

type SmallType = keyof typeof SMALL;
type LargeType = keyof typeof LARGE;
type ScalarType = SmallType | LargeType;

export type Field =
  | { readonly name: string; readonly type: ScalarType; readonly length?: number }
  /** Raw bytes. */
  | { readonly name: string; readonly type: 'buffer'; readonly size: number }
  /** Zeros where something was that nobody reads any more. */
  | { readonly name: string; readonly type: 'unused_buffer'; readonly size: number }
  /** A number that both sides must have alike. */
  | { readonly name: string; readonly type: 'int32 equal'; readonly value: number }
  | { readonly name: string; readonly type: 'struct'; readonly struct: VmState; readonly length?: number };

/** A device, a struct in it, or a subsection of it. */
export interface VmState {
  readonly name: string;
  readonly version: number;
  readonly fields: readonly Field[];
  readonly subsections?: readonly Subsection[];
}

/** A part that is only written when it is needed, so that older readers go on without it. */
export interface Subsection extends VmState {
  /** Member of the device's values that holds this part; absent there, it is not written. */
  readonly member: string;
}

type ScalarValue<T> = T extends 'bool' ? boolean : T extends SmallType ? number : bigint;
type Repeated<F, V> = F extends { readonly length: number } ? readonly V[] : V;
type FieldValue<F> = F extends { readonly struct: infer S extends VmState }
  ? Repeated<F, ValuesOf<S>>
  : F extends { readonly type: 'buffer' }
    ? Uint8Array
    : F extends { readonly type: infer T extends ScalarType }
      ? Repeated<F, ScalarValue<T>>
      : never;

/** The values that a declaration made with `as const satisfies VmState` describes. */
export type ValuesOf<S extends VmState> = {
  readonly [F in Exclude<
    S['fields'][number],
    { type: 'unused_buffer' | 'int32 equal' }
  > as F['name']]: FieldValue<F>;
} & (S extends { readonly subsections: readonly (infer U extends Subsection)[] }
  ? { readonly [P in U as P['member']]?: ValuesOf<P> }
  : unknown);

type AnyValues = Readonly<Record<string, unknown>>;

/** Writes the data of a section. */
export function encodeVmState<S extends VmState>(state: S, values: ValuesOf<S>): Uint8Array {
  const to = new ByteBuilder();
  encode(state, values as AnyValues, to);
  return to.finish();
}

function encode(state: VmState, values: AnyValues, to: ByteBuilder): void {
  for (const field of state.fields) {
    const value = values[field.name];
    if (field.type === 'unused_buffer') {
      to.raw(new Uint8Array(field.size));
      continue;
    }
    if (field.type === 'buffer') {
      const bytes = new Uint8Array(field.size);
      bytes.set(value as Uint8Array);
      to.raw(bytes);
      continue;
    }
    if (field.type === 'int32 equal') {
      encodeScalar('int32', field.value, to);
      continue;
    }
    for (const item of field.length === undefined ? [value] : (value as readonly unknown[])) {
      if (field.type === 'struct') encode(field.struct, item as AnyValues, to);
      else encodeScalar(field.type, item as number | bigint | boolean, to);
    }
  }
  for (const part of state.subsections ?? []) {
    const partValues = values[part.member];
    if (partValues === undefined) continue;
    to.uint8(SectionType.SUBSECTION).str8(part.name).uint32(part.version);
    encode(part, partValues as AnyValues, to);
  }
}

function encodeScalar(type: ScalarType, value: number | bigint | boolean, to: ByteBuilder): void {
  if (type in LARGE) to.uint64(BigInt.asUintN(64, BigInt(value)));
  else {
    const bytes = SMALL[type as SmallType];
    const number = Number(value);
    if (bytes === 1) to.uint8(number & 0xff);
    else if (bytes === 2) to.uint16(number & 0xffff);
    else to.uint32(number >>> 0);
  }
}

/** The members that describe a device in the trailing JSON, from `vmsd_name` on: what was written, not what could be. */
export function describeVmState<S extends VmState>(state: S, values: ValuesOf<S>): object {
  return describe(state, values as AnyValues);
}

function describe(state: VmState, values: AnyValues): object {
  const parts = (state.subsections ?? []).filter((part) => values[part.member] !== undefined);
  return {
    vmsd_name: state.name,
    version: state.version,
    fields: state.fields.map((field) => describeField(field, values)),
    ...(parts.length === 0
      ? {}
      : { subsections: parts.map((part) => describe(part, values[part.member] as AnyValues)) }),
  };
}

function describeField(field: Field, values: AnyValues): object {
  const { name, type } = field;
  if (field.type === 'buffer' || field.type === 'unused_buffer') return { name, type, size: field.size };
  if (field.type === 'int32 equal') return { name, type, size: scalarSize('int32') };
  const head = field.length === undefined ? { name, type } : { name, array_len: field.length, type };
  if (field.type !== 'struct') return { ...head, size: scalarSize(field.type) };
  const value = values[name];
  const first = field.length === undefined ? value : (value as readonly unknown[])[0];
  const to = new ByteBuilder();
  encode(field.struct, first as AnyValues, to);
  return { ...head, struct: describe(field.struct, first as AnyValues), size: to.length };
}

function scalarSize(type: ScalarType): number {
  return type in LARGE ? LARGE[type as LargeType] : SMALL[type as SmallType];
}

/** Section data that does not fit its declaration. `offset` counts from the start of the data. */
export class VmStateError extends Error {
  constructor(
    message: string,
    readonly offset: number,
  ) {
    super(message);
  }
}

/**
 * Reads the data of a section.
 *
 * @param data begins with the section's data; what follows it is left alone
 * @param version as the section's head has it; must be the declared one
 * @returns the values and how many bytes they took
 * @throws VmStateError
 */
export function decodeVmState<S extends VmState>(
  state: S,
  data: Uint8Array,
  version: number,
): { values: ValuesOf<S>; length: number } {
  const from = new Cursor(data);
  return { values: decode(state, from, version) as ValuesOf<S>, length: from.at };
}

function decode(state: VmState, from: Cursor, version: number): AnyValues {
  if (version !== state.version) {
    throw new VmStateError(
      `version ${version} of ${state.name} is not supported, only ${state.version}`,
      from.at,
    );
  }
  const values: Record<string, unknown> = {};
  for (const field of state.fields) {
    if (field.type === 'buffer') values[field.name] = new Uint8Array(from.take(field.size));
    else if (field.type === 'unused_buffer') from.take(field.size);
    else if (field.type === 'int32 equal') {
      const value = decodeScalar('int32', from);
      if (value !== field.value) {
        throw new VmStateError(
          `${state.name}.${field.name} is ${value}, here it is ${field.value}`,
          from.at - 4,
        );
      }
    } else {
      const one = () =>
        field.type === 'struct'
          ? decode(field.struct, from, field.struct.version)
          : decodeScalar(field.type, from);
      values[field.name] = field.length === undefined ? one() : Array.from({ length: field.length }, one);
    }
  }
  for (;;) {
    const name = peekSubsection(from, state.name);
    if (name === undefined) return values;
    const part = state.subsections?.find((candidate) => candidate.name === name);
    if (part === undefined) throw new VmStateError(`unknown subsection "${name}"`, from.at);
    from.take(2 + name.length);
    const partVersion = from.view(4).getUint32(0);
    values[part.member] = decode(part, from, partVersion);
  }
}

function decodeScalar(type: ScalarType, from: Cursor): number | bigint | boolean {
  const view = from.view(scalarSize(type));
  switch (type) {
    case 'bool':
      return view.getUint8(0) !== 0;
    case 'uint8':
      return view.getUint8(0);
    case 'int8':
      return view.getInt8(0);
    case 'uint16':
      return view.getUint16(0);
    case 'int16':
      return view.getInt16(0);
    case 'uint32':
      return view.getUint32(0);
    case 'int32':
      return view.getInt32(0);
    case 'uint64':
      return view.getBigUint64(0);
    case 'int64':
    case 'timer':
      return view.getBigInt64(0);
  }
}

/** The name of the subsection that begins here, told from other bytes by its parent's name in front. */
function peekSubsection(from: Cursor, parent: string): string | undefined {
  const { data, at } = from;
  const length = data[at + 1] ?? 0;
  if (data[at] !== SectionType.SUBSECTION || at + 2 + length > data.length) return undefined;
  const name = Buffer.from(data.subarray(at + 2, at + 2 + length)).toString('latin1');
  return name.startsWith(`${parent}/`) ? name : undefined;
}

class Cursor {
  at = 0;

  constructor(readonly data: Uint8Array) {}

  take(length: number): Uint8Array {
    if (length > this.data.length - this.at) {
      throw new VmStateError(
        `${length} bytes are needed and ${this.data.length - this.at} are left`,
        this.at,
      );
    }
    this.at += length;
    return this.data.subarray(this.at - length, this.at);
  }

  view(length: number): DataView {
    const bytes = this.take(length);
    return new DataView(bytes.buffer, bytes.byteOffset, length);
  }
}
