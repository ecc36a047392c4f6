import { JsonObject, parseDescriptionJson, parsePlainJson } from './description-json.js';

/**
 * What a stream's vmdescription says about the device sections that were written:
 *
 * ```text
 * { "configuration": DESC, "page_size": n, "devices": [ DEVICE … ] }
 * DEVICE = { "name", "instance_id", DESC } or { "name", "instance_id", "size", "fields" }
 * DESC   = "vmsd_name", "version", "fields": [ FIELD … ], "subsections": [ { DESC } … ]
 * FIELD  = { "name", "array_len" or "index", "type", "struct": { DESC }, "size" }
 * ```
 */
export interface VmDescription {
  pageSize?: number;
  /** Present from QEMU 8 or so on. */
  configuration?: StructDescription;
  devices: DeviceDescription[];
  /** The JSON as it was, other programs' keys included. */
  text: string;
  /** All keys of the outermost object, and where in `text` their values are. */
  keys: readonly { key: string; start: number; end: number }[];
}

/** Fields, then subsections, back to back in the data. */
export interface StructDescription {
  vmsdName: string;
  version: number;
  fields: FieldDescription[];
  subsections: StructDescription[];
}

export interface DeviceDescription extends StructDescription {
  /** The section's idstr. */
  name: string;
  instanceId: number;
  /** Bytes of the section, given only by devices with a save function of their own. */
  size?: number;
}

export interface FieldDescription {
  name: string;
  type: string;
  /** Bytes of one element, of the first one where elements differ. */
  size: number;
  /** Number of elements that this one description stands for. */
  arrayLength?: number;
  /** Place in an array that is described element by element. The last element lacks it. */
  index?: number;
  struct?: StructDescription;
  /** Descriptions written right into the field: one for `tmp` and `vstruct`, one an element for lists and trees. */
  inlined: StructDescription[];
}

/**
 * Reads a vmdescription. Anything unexpected in it is read as far as it makes sense, since the
 * footers of the sections show whether a description is right.
 *
 * @throws SyntaxError when the text is not a JSON object
 */
export function parseVmDescription(text: string): VmDescription {
  const plain = plainDescription(text);
  const root = plain ?? parseDescriptionJson(text);
  if (!isObject(root)) throw new SyntaxError('the description is not an object');
  let keys: VmDescription['keys'] | undefined;
  const description: VmDescription = {
    devices: objects(member(root, 'devices')).map((json) => device(json)),
    text,
    get keys() {
      keys ??= keysOf(root instanceof JsonObject ? root : parseDescriptionJson(text));
      return keys;
    },
  };
  if (plain !== undefined) plainRoots.set(description, plain);
  const pageSize = count(member(root, 'page_size'));
  if (pageSize !== undefined) description.pageSize = pageSize;
  const configuration = member(root, 'configuration');
  if (isObject(configuration)) description.configuration = struct(configuration);
  return description;
}

/** An object of a description. Where keys repeat only the reader of this folder keeps all of them. */
type Members = JsonObject | Readonly<Record<string, unknown>>;

/** Of descriptions that `JSON.parse` has read. */
const plainRoots = new WeakMap<VmDescription, Readonly<Record<string, unknown>>>();

/** One description behind another one in the same field: their keys repeat. */
const REPEATED = /\]\s*,\s*"vmsd_name"/;

/**
 * The description by `JSON.parse`, in a tenth of the time, where no keys of devices repeat: reading it comes before everything
 * else that is done with a file.
 */
function plainDescription(text: string): Readonly<Record<string, unknown>> | undefined {
  if (REPEATED.test(text)) return undefined;
  try {
    const root = parsePlainJson(text);
    return isObject(root) && !(root instanceof JsonObject) ? root : undefined;
  } catch {
    return undefined;
  }
}

function keysOf(root: unknown): VmDescription['keys'] {
  return root instanceof JsonObject ? root.entries.map(({ key, start, end }) => ({ key, start, end })) : [];
}

/**
 * The value of a key of the outermost object, such as one appended by `appendDescriptionKey`; `undefined` where there is
 * none, or one that is no JSON. The first one counts where there are several.
 */
export function descriptionKey(description: VmDescription, key: string): unknown {
  const { text } = description;
  const plain = plainRoots.get(description);
  if (plain !== undefined) {
    if (!Object.hasOwn(plain, key)) return undefined;
    if (isSoleKey(key, plain[key], text)) return plain[key];
  }
  const found = description.keys.find((candidate) => candidate.key === key);
  if (found === undefined) return undefined;
  try {
    return JSON.parse(text.slice(found.start, found.end));
  } catch {
    return undefined;
  }
}

/**
 * Whether it is certain that `value`, which `JSON.parse` has found under a key of the outermost object, is not the last of several:
 * what is written as the key stands nowhere else but in the value itself.
 */
export function isSoleKey(key: string, value: unknown, text: string): boolean {
  if (text.includes('\\')) return false;
  const quoted = `"${key}"`;
  return occurrences(quoted, text) === 1 + occurrences(quoted, JSON.stringify(value));
}

function occurrences(part: string, text: string): number {
  let count = 0;
  for (let at = text.indexOf(part); at !== -1; at = text.indexOf(part, at + part.length)) count++;
  return count;
}

/**
 * Bytes that data of this description take in the stream.
 * `Infinity` or more than 2^53 for descriptions that cannot be right.
 */
export function describedBytes(description: StructDescription): number {
  const known = knownBytes.get(description);
  if (known !== undefined) return known;
  let total = 0;
  for (const field of description.fields) total += field.size * (field.arrayLength ?? 1);
  for (const subsection of description.subsections) {
    total += subsectionHeaderBytes(subsection.vmsdName) + describedBytes(subsection);
  }
  knownBytes.set(description, total);
  return total;
}

/**
 * Whether data may be longer than `describedBytes`: before 10.0, QEMU described an array of pointers by its first element alone, and a
 * null pointer as a structure without a name or fields that takes a byte. The others may be structures all the same (`css` of s390x).
 */
export function mayBeLonger({ fields, subsections }: StructDescription): boolean {
  const isNull = (struct: StructDescription) => struct.vmsdName === '' && struct.fields.length === 0;
  return (
    fields.some(
      ({ arrayLength = 1, size, struct }) =>
        struct !== undefined && (isNull(struct) ? size === 1 && arrayLength > 1 : mayBeLonger(struct)),
    ) || subsections.some(mayBeLonger)
  );
}

/** Any number of sections may go by one description. */
const knownBytes = new WeakMap<StructDescription, number>();

/** Type byte, str8 name, be32 version. */
export function subsectionHeaderBytes(vmsdName: string): number {
  return 1 + 1 + new TextEncoder().encode(vmsdName).byteLength + 4;
}

/** Far more than any device has. */
const MAX_DEPTH = 64;

function device(json: Members): DeviceDescription {
  const described: DeviceDescription = {
    name: string(member(json, 'name')),
    instanceId: count(member(json, 'instance_id')) ?? 0,
    ...struct(json),
  };
  const size = count(member(json, 'size'));
  if (size !== undefined) described.size = size;
  return described;
}

function struct(json: Members, depth = 0): StructDescription {
  if (depth > MAX_DEPTH) throw new SyntaxError(`more than ${MAX_DEPTH} descriptions inside one another`);
  return {
    vmsdName: string(member(json, 'vmsd_name')),
    version: count(member(json, 'version')) ?? 0,
    fields: objects(member(json, 'fields')).map((inside) => field(inside, depth + 1)),
    subsections: objects(member(json, 'subsections')).map((inside) => struct(inside, depth + 1)),
  };
}

function field(json: Members, depth: number): FieldDescription {
  const described: FieldDescription = {
    name: string(member(json, 'name')),
    type: string(member(json, 'type')),
    size: count(member(json, 'size')) ?? 0,
    inlined: inlined(json, depth),
  };
  const arrayLength = count(member(json, 'array_len'));
  if (arrayLength !== undefined) described.arrayLength = arrayLength;
  const index = count(member(json, 'index'));
  if (index !== undefined) described.index = index;
  const nested = member(json, 'struct');
  if (isObject(nested)) described.struct = struct(nested, depth);
  return described;
}

/** The descriptions among a field's own entries: each begins with `vmsd_name`. */
function inlined(json: Members, depth: number): StructDescription[] {
  if (!(json instanceof JsonObject)) return Object.hasOwn(json, 'vmsd_name') ? [struct(json, depth)] : [];
  const starts = json.entries.flatMap(({ key }, index) => (key === 'vmsd_name' ? [index] : []));
  return starts.map((start, order) =>
    struct(new JsonObject(json.entries.slice(start, starts[order + 1])), depth),
  );
}

function member(json: Members, key: string): unknown {
  return json instanceof JsonObject ? json.get(key) : json[key];
}

function isObject(value: unknown): value is Members {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function objects(value: unknown): Members[] {
  return Array.isArray(value) ? value.filter(isObject) : [];
}

function string(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

function count(value: unknown): number | undefined {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 ? value : undefined;
}
