import assert from 'node:assert/strict';
import { type DecodedStruct, type DecodedValue, decodeDevice } from '../../src/stream/device-decoder.js';
import type { DeviceSection } from '../../src/stream/device-sections.js';
import { type Expected, register } from './golden-file.js';

/** Asserts that every section is described, has its described length, and decodes without rest. */
export function checkEveryDeviceDecodes(sections: readonly DeviceSection[]): void {
  for (const section of sections) {
    assert.equal(section.delimitedBy, 'description', section.idstr);
    assert.ok(section.description, section.idstr);
    const device = decodeDevice(section.description, section.data);
    assert.equal(device.rest, undefined, section.idstr);
    assert.equal(device.length, section.data.byteLength, section.idstr);
    assert.deepEqual([...values(device)].filter(isUndecoded), [], section.idstr);
  }
}

/** Asserts that the decoded processor has the registers that QEMU printed. */
export function checkX86Registers(sections: readonly DeviceSection[], expected: Expected): void {
  const cpu = sections.find(({ idstr }) => idstr === 'cpu');
  assert.ok(cpu?.description, 'there is no description');
  const device = decodeDevice(cpu.description, cpu.data);
  const names = ['EAX', 'ECX', 'EDX', 'EBX', 'ESP', 'EBP', 'ESI', 'EDI'];
  const general = fieldOf(device, 'env.regs') as DecodedValue[];
  assert.deepEqual(
    general.slice(0, 8),
    names.map((name) => register(expected, name)),
  );
  assert.equal(fieldOf(device, 'env.eip'), register(expected, 'EIP'));
  assert.equal(fieldOf(device, 'env.cr[0]'), register(expected, 'CR0'));
  assert.equal(fieldOf(device, 'env.cr[3]'), register(expected, 'CR3'));
}

export function fieldOf(struct: DecodedStruct, name: string): DecodedValue | undefined {
  return struct.fields.find((field) => field.name === name)?.value;
}

function isUndecoded(value: DecodedValue): boolean {
  return typeof value === 'object' && value !== null && 'kind' in value && value.kind === 'undecoded';
}

function* values(value: DecodedValue): Generator<DecodedValue> {
  yield value;
  if (Array.isArray(value)) for (const element of value) yield* values(element);
  else if (typeof value === 'object' && value !== null && 'kind' in value && value.kind === 'struct') {
    for (const field of value.fields) yield* values(field.value);
    for (const subsection of value.subsections) yield* values(subsection);
  }
}
