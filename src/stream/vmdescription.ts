import {
  countValues,
  JsonObject,
  MAX_VALUES,
  parseDescriptionJson,
  parsePlainJson,
} from './description-json.js';
import { type Extent, type KeyExtent, outlineSteps } from './description-outline.js';
import { inSlices, SLICE_LENGTH, type SlicedWork } from './slices.js';

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
  keys: readonly KeyExtent[];
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
 * footers of the sections show whether a description is right. It may be of thousands of devices: the event loop turns meanwhile.
 *
 * @throws SyntaxError when the text is not a JSON object, or describes more than is read
 */
export function parseVmDescription(text: string): Promise<VmDescription> {
  return inSlices(descriptionSteps(text));
}

/** The same, for those who let the event loop turn themselves. */
export function* descriptionSteps(text: string): SlicedWork<VmDescription> {
  const { keys, devices } = yield* outlineSteps(text);
  const description: VmDescription = { devices: yield* deviceSteps(text, devices), text, keys };
  const pageSize = count(descriptionKey(description, 'page_size'));
  if (pageSize !== undefined) description.pageSize = pageSize;
  const configuration = keys.find(({ key }) => key === 'configuration');
  if (configuration !== undefined) {
    const json = text.slice(configuration.start, configuration.end);
    countValues(json, MAX_DEVICE_VALUES);
    const members = parseMembers(json);
    if (members !== undefined) description.configuration = struct(members);
  }
  return description;
}

/** Of one device. The most known is 40,000 of a whole machine. */
const MAX_DEVICE_VALUES = 2 ** 17;

/** A device in this form takes as long as so many characters, however short its text is. */
const DEVICE_LENGTH = 64;

function* deviceSteps(text: string, extents: readonly Extent[]): SlicedWork<DeviceDescription[]> {
  const reader = new DeviceReader();
  const devices: DeviceDescription[] = [];
  let length = 0;
  for (const { start, end } of extents) {
    const described = reader.read(text.slice(start, end));
    if (described !== undefined) devices.push(described);
    length += end - start + DEVICE_LENGTH;
    if (length < SLICE_LENGTH) continue;
    yield length;
    length = 0;
  }
  return devices;
}

/** How QEMU begins a device: its name, its instance id, and the rest. */
const DEVICE_HEAD = /^\{\s*"name":\s*"([^"\\]*)",\s*"instance_id":\s*(0|[1-9]\d*),/;

/** Processors differ in a few optional parts. */
const MAX_VARIANTS = 8;

/**
 * Reads devices one by one. Those of one name that differ in nothing but the instance id are parsed once: a machine has as
 * many of some as it has processors.
 */
class DeviceReader {
  #values = 0;
  readonly #variants = new Map<string, { rest: string; described: DeviceDescription }[]>();

  read(json: string): DeviceDescription | undefined {
    const [head = '', name = '', id = ''] = DEVICE_HEAD.exec(json) ?? [];
    const rest = json.slice(head.length);
    const instanceId = count(Number(id));
    const variants = this.#variants.get(name) ?? [];
    if (head === '' || instanceId === undefined) return this.#parse(json);
    const known = variants.find((variant) => variant.rest === rest)?.described;
    if (known !== undefined) {
      const described = { ...known, instanceId };
      knownBytes.set(described, describedBytes(known));
      return described;
    }
    const described = this.#parse(json);
    // Nothing in the rest may be another name or instance id.
    if (described !== undefined && variants.length < MAX_VARIANTS && !/\\|"instance_id"/.test(rest)) {
      variants.push({ rest, described });
      this.#variants.set(name, variants);
    }
    return described;
  }

  #parse(json: string): DeviceDescription | undefined {
    this.#values += countValues(json, Math.min(MAX_DEVICE_VALUES, MAX_VALUES - this.#values));
    const members = parseMembers(json);
    return members && device(members);
  }
}

/** An object of a description. Where keys repeat only the reader of this folder keeps all of them. */
type Members = JsonObject | Readonly<Record<string, unknown>>;

/** One description behind another one in the same field: their keys repeat. */
const REPEATED = /\]\s*,\s*"vmsd_name"/;

/**
 * The object in `json`, by `JSON.parse`, in a tenth of the time, where no keys repeat. `undefined` for what is no object.
 *
 * @throws SyntaxError
 */
function parseMembers(json: string): Members | undefined {
  const value: unknown = REPEATED.test(json) ? parseDescriptionJson(json) : JSON.parse(json);
  return isObject(value) ? value : undefined;
}

/**
 * The value of a key of the outermost object, such as one appended by `appendDescriptionKey`; `undefined` where there is
 * none, or one that is no JSON. The first one counts where there are several.
 */
export function descriptionKey(description: VmDescription, key: string): unknown {
  const found = description.keys.find((candidate) => candidate.key === key);
  if (found === undefined) return undefined;
  const values = knownValues.get(description) ?? new Map<string, unknown>();
  knownValues.set(description, values);
  if (!values.has(key)) values.set(key, jsonOrNothing(description.text.slice(found.start, found.end)));
  return values.get(key);
}

/** A manifest is asked for again and again. */
const knownValues = new WeakMap<VmDescription, Map<string, unknown>>();

function jsonOrNothing(text: string): unknown {
  try {
    return parsePlainJson(text);
  } catch {
    return undefined;
  }
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
