import { JsonObject, type JsonValue, parseDescriptionJson } from './description-json.js';

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
  const root = parseDescriptionJson(text);
  if (!(root instanceof JsonObject)) throw new SyntaxError('the description is not an object');
  const description: VmDescription = {
    devices: objects(root.get('devices')).map(device),
    text,
    keys: root.entries.map(({ key, start, end }) => ({ key, start, end })),
  };
  const pageSize = count(root.get('page_size'));
  if (pageSize !== undefined) description.pageSize = pageSize;
  const configuration = root.get('configuration');
  if (configuration instanceof JsonObject) description.configuration = struct(configuration);
  return description;
}

/**
 * The value of a key of the outermost object, such as one appended by `appendDescriptionKey`; `undefined` where there is
 * none, or one that is no JSON.
 */
export function descriptionKey({ keys, text }: VmDescription, key: string): unknown {
  const found = keys.find((candidate) => candidate.key === key);
  if (found === undefined) return undefined;
  try {
    return JSON.parse(text.slice(found.start, found.end));
  } catch {
    return undefined;
  }
}

/**
 * Bytes that data of this description take in the stream.
 * `Infinity` or more than 2^53 for descriptions that cannot be right.
 */
export function describedBytes(description: StructDescription): number {
  let total = 0;
  for (const field of description.fields) total += field.size * (field.arrayLength ?? 1);
  for (const subsection of description.subsections) {
    total += subsectionHeaderBytes(subsection.vmsdName) + describedBytes(subsection);
  }
  return total;
}

/** Type byte, str8 name, be32 version. */
export function subsectionHeaderBytes(vmsdName: string): number {
  return 1 + 1 + new TextEncoder().encode(vmsdName).byteLength + 4;
}

function device(json: JsonObject): DeviceDescription {
  const described: DeviceDescription = {
    name: string(json.get('name')),
    instanceId: count(json.get('instance_id')) ?? 0,
    ...struct(json),
  };
  const size = count(json.get('size'));
  if (size !== undefined) described.size = size;
  return described;
}

function struct(json: JsonObject): StructDescription {
  return {
    vmsdName: string(json.get('vmsd_name')),
    version: count(json.get('version')) ?? 0,
    fields: objects(json.get('fields')).map(field),
    subsections: objects(json.get('subsections')).map(struct),
  };
}

function field(json: JsonObject): FieldDescription {
  const described: FieldDescription = {
    name: string(json.get('name')),
    type: string(json.get('type')),
    size: count(json.get('size')) ?? 0,
    inlined: inlined(json),
  };
  const arrayLength = count(json.get('array_len'));
  if (arrayLength !== undefined) described.arrayLength = arrayLength;
  const index = count(json.get('index'));
  if (index !== undefined) described.index = index;
  const nested = json.get('struct');
  if (nested instanceof JsonObject) described.struct = struct(nested);
  return described;
}

/** The descriptions among a field's own entries: each begins with `vmsd_name`. */
function inlined(json: JsonObject): StructDescription[] {
  const starts = json.entries.flatMap(({ key }, index) => (key === 'vmsd_name' ? [index] : []));
  return starts.map((start, order) => struct(new JsonObject(json.entries.slice(start, starts[order + 1]))));
}

function objects(value: JsonValue | undefined): JsonObject[] {
  return Array.isArray(value) ? value.filter((item) => item instanceof JsonObject) : [];
}

function string(value: JsonValue | undefined): string {
  return typeof value === 'string' ? value : '';
}

function count(value: JsonValue | undefined): number | undefined {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 ? value : undefined;
}
