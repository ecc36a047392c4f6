import { formatBytes, formatUndecoded, formatValue } from '../analysis/format-value.js';
import type { InspectedDevice } from '../snapshot/inspect/inspect.js';
import type { DecodedField, DecodedStruct, DecodedValue } from '../stream/device-decoder.js';
import { visibleLine } from '../visible.js';

/** A device with its fields, one a line, structs and subsections indented below their name. */
export function deviceTree(device: InspectedDevice): string {
  const { idstr, instanceId, version, length, position, state, data } = device;
  const head = line(0, `${idstr}  instance ${instanceId}, version ${version}, ${length} bytes`);
  if (state === undefined) {
    const place = `section at ${position} of the stream`;
    return `${head}\n${line(1, `(the file does not describe it; ${place}) ${formatBytes(data ?? new Uint8Array())}`)}`;
  }
  return [
    head,
    ...structLines(state, 1),
    ...(state.rest === undefined ? [] : [line(1, formatUndecoded(state.rest))]),
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
        : [line(depth, formatUndecoded(part))],
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

function line(depth: number, text: string): string {
  return `${'  '.repeat(depth)}${visibleLine(text)}`;
}
