import {
  type DecodedField,
  type DecodedStruct,
  type DecodedValue,
  decodeDevice,
} from '../../stream/device-decoder.js';
import type { DeviceSection } from '../../stream/device-sections.js';
import type { DeviceComparison, LeafValue } from '../compare-devices.js';
import { formatUndecoded, formatValue } from '../format-value.js';
import type { TreeNode } from './report-data.js';

/** Devices with all of their fields. */
export function deviceNodes(devices: readonly DeviceSection[]): TreeNode[] {
  return devices.map(({ idstr, instanceId, versionId, data, description }): TreeNode => {
    const head = `instance ${instanceId}, version ${versionId}, ${data.byteLength} bytes`;
    if (description === undefined) {
      return [idstr, head, [['data', `(not described) ${formatValue(data, 'buffer')}`]]];
    }
    const device = decodeDevice(description, data);
    const rest: TreeNode[] = device.rest === undefined ? [] : [['(rest)', formatUndecoded(device.rest)]];
    return [idstr, head, [...structNodes(device), ...rest]];
  });
}

/** Devices with what became of their fields. */
export function changeNodes(devices: readonly DeviceComparison[]): TreeNode[] {
  const says = {
    different: '',
    'only-before': 'only in the first',
    'only-after': 'only in the second',
  };
  const show = (value: LeafValue | undefined, type: string) =>
    value === undefined ? '(absent)' : formatValue(value, type);
  return devices.map(({ idstr, instanceId, status, changes }): TreeNode => {
    const count = changes.length === 0 ? says[status] : `${changes.length} changes`;
    return [
      idstr,
      `instance ${instanceId}, ${count}`,
      changes.map(({ path, type, before, after }) => [path, `${show(before, type)} → ${show(after, type)}`]),
    ];
  });
}

function structNodes({ fields, subsections }: DecodedStruct): TreeNode[] {
  return [
    ...fields.flatMap(fieldNodes),
    ...subsections.map(
      (part): TreeNode =>
        part.kind === 'struct'
          ? [part.vmsdName, `subsection, version ${part.version}`, structNodes(part)]
          : ['(subsection)', formatUndecoded(part)],
    ),
  ];
}

function fieldNodes({ name, type, value }: Pick<DecodedField, 'name' | 'type' | 'value'>): TreeNode[] {
  if (isStruct(value)) return [[name, '', structNodes(value)]];
  if (Array.isArray(value) && value.some(isStruct)) {
    return value.flatMap((element, index) => fieldNodes({ name: `${name}[${index}]`, type, value: element }));
  }
  return [[name, formatValue(value, type)]];
}

function isStruct(value: DecodedValue): value is DecodedStruct {
  return typeof value === 'object' && value !== null && 'kind' in value && value.kind === 'struct';
}
