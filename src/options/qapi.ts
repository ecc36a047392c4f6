/**
 * The part of QEMU's interface language (QAPI) that describes arguments: type descriptions, the check of a JSON
 * value against one of them with QEMU's own error texts, and the TypeScript type that belongs to each description.
 *
 * Order of checks, as in QEMU's input visitor: members in the order they are declared, then members nobody asked for.
 * Names in errors: the full path (`channels[0].addr.offset`) for missing members and wrong types, the last name alone
 * for enumeration values and integers that are too wide.
 */
import { JsonDouble, type JsonObject, type JsonValue, toJsonInteger } from '../json/json-value.js';
import { OptionError } from './option-error.js';

export type IntegerWidth = 'uint8' | 'uint16' | 'uint32' | 'uint64' | 'int' | 'size';

/** What a schema says of a member or value, beyond its type. */
export type QapiFeature = 'deprecated' | 'unstable';

export type QapiType =
  | { readonly kind: 'bool' | 'str' | 'number' | 'any' }
  | { readonly kind: 'integer'; readonly width: IntegerWidth }
  | { readonly kind: 'str-or-null' }
  | {
      readonly kind: 'enum';
      readonly values: readonly string[];
      /** Of values that have any. */
      readonly features?: Readonly<Record<string, readonly QapiFeature[]>>;
    }
  | { readonly kind: 'array'; readonly of: QapiType }
  | QapiStruct
  | QapiUnion;

export interface QapiStruct {
  readonly kind: 'struct';
  readonly members: Readonly<Record<string, QapiMember>>;
}

/** An object whose member `tag` says which further members it has. */
export interface QapiUnion {
  readonly kind: 'union';
  readonly tag: string;
  readonly cases: Readonly<Record<string, QapiStruct | QapiUnion>>;
}

export interface QapiMember {
  readonly type: QapiType;
  readonly optional?: boolean;
  readonly unstable?: boolean;
  readonly deprecated?: boolean;
}

/** The TypeScript type of a checked value. */
export type QapiValue<T extends QapiType> = T extends { kind: 'bool' }
  ? boolean
  : T extends { kind: 'str' }
    ? string
    : T extends { kind: 'integer' }
      ? number | bigint
      : T extends { kind: 'str-or-null' }
        ? string | null
        : T extends { kind: 'enum'; values: readonly (infer V)[] }
          ? V
          : T extends { kind: 'array'; of: infer E extends QapiType }
            ? QapiValue<E>[]
            : T extends { kind: 'struct'; members: infer M extends Record<string, QapiMember> }
              ? QapiStructValue<M>
              : JsonValue;

type QapiStructValue<M extends Record<string, QapiMember>> = {
  [K in keyof M as M[K] extends { optional: true } ? never : K]: QapiValue<M[K]['type']>;
} & {
  [K in keyof M as M[K] extends { optional: true } ? K : never]?: QapiValue<M[K]['type']>;
};

const WIDTH_LIMIT: Record<IntegerWidth, { max: bigint; word: string }> = {
  uint8: { max: 0xffn, word: 'uint8_t' },
  uint16: { max: 0xffffn, word: 'uint16_t' },
  uint32: { max: 0xffff_ffffn, word: 'uint32_t' },
  uint64: { max: 2n ** 64n - 1n, word: 'uint64' },
  size: { max: 2n ** 64n - 1n, word: 'uint64' },
  int: { max: 2n ** 63n - 1n, word: 'integer' },
};

/**
 * Checks `value` against `type` and gives it back in normal form: unsigned integers in their unsigned reading
 * (QEMU takes −1 as 2^64−1), nothing unknown inside.
 *
 * @param path the name shown in errors; empty for the arguments of a command
 * @throws OptionError with QEMU's text
 */
export function checkQapi<T extends QapiType>(type: T, value: JsonValue, path = ''): QapiValue<T> {
  return check(type, value, path, path) as QapiValue<T>;
}

function check(type: QapiType, value: JsonValue, path: string, name: string): JsonValue {
  switch (type.kind) {
    case 'any':
      return value;
    case 'bool':
      return typeof value === 'boolean' ? value : wrongType(path, 'boolean');
    case 'str':
      return typeof value === 'string' ? value : wrongType(path, 'string');
    case 'number':
      return typeof value === 'number' || typeof value === 'bigint' || value instanceof JsonDouble
        ? value
        : wrongType(path, 'number');
    case 'str-or-null':
      return typeof value === 'string' || value === null ? value : wrongType(name, 'StrOrNull');
    case 'integer':
      return checkInteger(type.width, value, path, name);
    case 'enum':
      if (typeof value !== 'string') return wrongType(path, 'string');
      if (!type.values.includes(value)) {
        throw new OptionError(`Parameter '${name || 'null'}' does not accept value '${value}'`);
      }
      return value;
    case 'array':
      if (!Array.isArray(value)) return wrongType(path, 'array');
      return value.map((element, index) => check(type.of, element, `${path}[${index}]`, ''));
    case 'struct':
    case 'union': {
      if (!isJsonObject(value)) return wrongType(path, 'object');
      const checked: JsonObject = {};
      const known = new Set<string>();
      checkMembers(type, value, path, checked, known);
      for (const key of Object.keys(value)) {
        if (!known.has(key)) throw new OptionError(`Parameter '${memberPath(path, key)}' is unexpected`);
      }
      return checked;
    }
  }
}

function checkMembers(
  type: QapiStruct | QapiUnion,
  value: JsonObject,
  path: string,
  checked: JsonObject,
  known: Set<string>,
): void {
  if (type.kind === 'union') {
    const tag: QapiType = { kind: 'enum', values: Object.keys(type.cases) };
    checkMembers({ kind: 'struct', members: { [type.tag]: { type: tag } } }, value, path, checked, known);
    const chosen = type.cases[checked[type.tag] as string];
    if (chosen !== undefined) checkMembers(chosen, value, path, checked, known);
    return;
  }
  for (const [key, member] of Object.entries(type.members)) {
    const given = Object.hasOwn(value, key) ? value[key] : undefined;
    if (given === undefined) {
      if (member.optional) continue;
      throw new OptionError(`Parameter '${memberPath(path, key)}' is missing`);
    }
    checked[key] = check(member.type, given, memberPath(path, key), key);
    known.add(key);
  }
}

function checkInteger(width: IntegerWidth, value: JsonValue, path: string, name: string): number | bigint {
  const { max, word } = WIDTH_LIMIT[width];
  const isInteger = typeof value === 'bigint' || (typeof value === 'number' && Number.isInteger(value));
  const integer = isInteger ? BigInt(value) : undefined;
  if (width === 'int') {
    return integer !== undefined && integer >= -(2n ** 63n) && integer <= max
      ? toJsonInteger(integer)
      : wrongType(path, word);
  }
  if (integer === undefined || integer < -(2n ** 63n) || integer > 2n ** 64n - 1n) {
    throw new OptionError(`Parameter '${path}' expects uint64`);
  }
  const unsigned = BigInt.asUintN(64, integer);
  if (unsigned > max) throw new OptionError(`Parameter '${name || 'null'}' expects ${word}`);
  return toJsonInteger(unsigned);
}

export function isJsonObject(value: JsonValue | undefined): value is JsonObject {
  return (
    typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof JsonDouble)
  );
}

function memberPath(path: string, key: string): string {
  return path === '' ? key : `${path}.${key}`;
}

function wrongType(path: string, expected: string): never {
  throw new OptionError(`Invalid parameter type for '${path || 'null'}', expected: ${expected}`);
}
