import type { InspectedDevice } from '../snapshot/inspect.js';
import type { DecodedField, DecodedStruct, DecodedValue, Undecoded } from '../stream/device-decoder.js';

const MAX_BYTES = 32;
const MAX_ELEMENTS = 16;

/** A device with its fields, one a line, structs and subsections indented below their name. */
export function deviceTree(device: InspectedDevice): string {
  const { idstr, instanceId, version, length, position, state, data } = device;
  const head = `${idstr}  instance ${instanceId}, version ${version}, ${length} bytes`;
  if (state === undefined) {
    const place = `section at ${position} of the stream`;
    return `${head}\n${line(1, `(the file does not describe it; ${place}) ${bytes(data ?? new Uint8Array())}`)}`;
  }
  return [
    head,
    ...structLines(state, 1),
    ...(state.rest === undefined ? [] : [line(1, undecoded(state.rest))]),
  ].join('\n');
}

function structLines(struct: DecodedStruct, depth: number): string[] {
  return [
    ...struct.fields.flatMap((field) => fieldLines(field, depth)),
    ...struct.subsections.flatMap((part) =>
      part.kind === 'struct'
        ? [
            line(depth, `${part.vmsdName}  subsection, version ${part.version}`),
            ...structLines(part, depth + 1),
          ]
        : [line(depth, undecoded(part))],
    ),
  ];
}

function fieldLines({ name, type, value }: DecodedField, depth: number): string[] {
  if (isStruct(value)) return [line(depth, `${name}:`), ...structLines(value, depth + 1)];
  if (Array.isArray(value) && value.some(isStruct)) {
    return value.flatMap((element, index) =>
      fieldLines({ name: `${name}[${index}]`, type, value: element, offset: 0, length: 0 }, depth),
    );
  }
  return [line(depth, `${name}: ${formatValue(value, type)}`)];
}

function isStruct(value: DecodedValue): value is DecodedStruct {
  return typeof value === 'object' && value !== null && 'kind' in value && value.kind === 'struct';
}

/** One value in one line; long ones are cut. */
export function formatValue(value: DecodedValue, type: string): string {
  if (value === null) return 'null';
  if (value instanceof Uint8Array) return bytes(value);
  if (Array.isArray(value)) {
    const shown = value.slice(0, MAX_ELEMENTS).map((element) => formatValue(element, type));
    const more = value.length > MAX_ELEMENTS ? `, … ${value.length} in all` : '';
    return `[${shown.join(', ')}${more}]`;
  }
  if (typeof value === 'object') return value.kind === 'undecoded' ? undecoded(value) : value.vmsdName;
  if (type === 'timer') return value === -1n ? 'not armed' : `${value} ns`;
  if (typeof value === 'number' && /^u?int/.test(type) && value > 9)
    return `${value} (0x${value.toString(16)})`;
  if (typeof value === 'bigint' && value > 9n) return `${value} (0x${value.toString(16)})`;
  return String(value);
}

function undecoded({ reason, offset, length, bytes: raw }: Undecoded): string {
  return `(${reason}; ${length} bytes at ${offset}) ${bytes(raw)}`;
}

function bytes(raw: Uint8Array): string {
  const hex = Buffer.from(raw.subarray(0, MAX_BYTES)).toString('hex');
  return raw.length > MAX_BYTES ? `${hex}… ${raw.length} bytes` : hex;
}

function line(depth: number, text: string): string {
  return `${'  '.repeat(depth)}${text}`;
}
