import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type DecodedDevice, type DecodedField, decodeDevice } from '../../src/stream/device-decoder.js';
import { type DeviceDescription, descriptionSteps } from '../../src/stream/vmdescription.js';
import { atOnce } from './at-once.js';

/** A device with these fields, written as JSON text so that keys can repeat. */
function described(fields: string, more = ''): DeviceDescription {
  const text = `{"devices": [{"name": "d", "instance_id": 0, "vmsd_name": "d", "version": 1, "fields": [${fields}]${more}}]}`;
  const [device] = atOnce(descriptionSteps(text)).devices;
  assert.ok(device, 'there is no device');
  return device;
}

function decode(fields: string, bytes: number[], more?: string): DecodedDevice {
  const data = Uint8Array.from(bytes);
  const device = decodeDevice(described(fields, more), data);
  assert.equal(device.rest, undefined);
  assert.equal(device.length, data.byteLength);
  return device;
}

function only(fields: string, bytes: number[]): DecodedField {
  const device = decode(fields, bytes);
  assert.equal(device.fields.length, 1);
  return device.fields[0] as DecodedField;
}

const field = (type: string, size: number, more = '') =>
  `{"name": "f", ${more}"type": "${type}", "size": ${size}}`;
const STRUCT = '{"vmsd_name": "s", "version": 1, "fields": [{"name": "x", "type": "uint8", "size": 1}]}';
const INLINED = STRUCT.slice(1, -1);

const SCALARS: [type: string, bytes: number[], value: unknown][] = [
  ['bool', [1], true],
  ['int8', [0xff], -1],
  ['int16', [0xff, 0xfe], -2],
  ['int32', [0xff, 0xff, 0xff, 0xfd], -3],
  ['int32 le', [0, 0, 0, 2], 2],
  ['int32 equal', [0, 0, 0, 2], 2],
  ['int64', [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfc], -4n],
  ['uint8 equal', [7], 7],
  ['uint16', [1, 2], 0x102],
  ['uint32', [0xff, 0xff, 0xff, 0xff], 0xffffffff],
  ['uint64', [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], 2n ** 64n - 1n],
  ['timer', [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], -1n],
  ['CPU_Double_U', [0x3f, 0xf8, 0, 0, 0, 0, 0, 0], 1.5],
  ['capability', [3, 0x61, 0x62, 0x63], 'abc'],
  ['buffer', [1, 2, 3], Uint8Array.of(1, 2, 3)],
  ['unused_buffer', [0, 0], Uint8Array.of(0, 0)],
  ['pci irq state', [9], Uint8Array.of(9)],
  ['virtio', [1, 2], Uint8Array.of(1, 2)],
  ['nullptr', [0x30], null],
];

for (const [type, bytes, value] of SCALARS) {
  test(`${type} is read`, () => {
    const decoded = only(field(type, bytes.length), bytes);
    assert.deepEqual(decoded, { name: 'f', type, offset: 0, length: bytes.length, value });
  });
}

test('array_len stands for that many elements', () => {
  assert.deepEqual(only(field('uint16', 2, '"array_len": 3, '), [0, 1, 0, 2, 0, 3]).value, [1, 2, 3]);
  assert.deepEqual(only(field('uint16', 2, '"array_len": 1, '), [0, 1]).value, [1]);
  assert.deepEqual(only(field('buffer', 0, '"array_len": 1000000000, '), []).value, []);
});

test('elements described one by one are one array, whose last has no index', () => {
  const fields = [
    field('uint8', 1, '"index": 0, '),
    field('uint8', 1, '"index": 1, '),
    field('uint8', 1),
  ].join(', ');
  assert.deepEqual(only(fields, [5, 6, 7]), {
    name: 'f',
    type: 'uint8',
    offset: 0,
    length: 3,
    value: [5, 6, 7],
  });
});

test('an array of pointers has nulls where QEMU had them', () => {
  const pointer = `{"name": "f", "type": "struct", "struct": ${STRUCT}, "size": 1}`;
  const fields = [field('nullptr', 1, '"array_len": 2, '), pointer].join(', ');
  const decoded = only(fields, [0x30, 0x30, 8]);
  assert.equal(decoded.type, 'struct');
  assert.ok(Array.isArray(decoded.value), 'the value is not an array');
  assert.deepEqual(decoded.value.slice(0, 2), [null, null]);
  assert.equal(decoded.value.length, 3);
});

test('names with a bracketed suffix are fields of their own', () => {
  const device = decode(
    '{"name": "c[0]", "type": "uint8", "size": 1}, {"name": "c[1]", "type": "uint8", "size": 1}',
    [1, 2],
  );
  assert.deepEqual(
    device.fields.map(({ name, value }) => [name, value]),
    [
      ['c[0]', 1],
      ['c[1]', 2],
    ],
  );
});

test('tmp and vstruct have their description written into the field', () => {
  for (const type of ['tmp', 'vstruct']) {
    const { value } = only(`{"name": "f", "type": "${type}", ${INLINED}, "size": 1}`, [4]);
    assert.ok(value !== null && typeof value === 'object' && 'fields' in value, 'the value is not a struct');
    assert.deepEqual(
      value.fields.map((inner) => inner.value),
      [4],
    );
  }
});

test('lists repeat their keys, one description an element', () => {
  const { value } = only(
    `{"name": "f", "type": "qtailq", ${INLINED}, ${INLINED}, "size": 5}`,
    [1, 8, 1, 9, 0],
  );
  assert.ok(Array.isArray(value), 'value is not an array');
  assert.deepEqual(
    value.map((element) => (element as DecodedDevice).fields[0]?.value),
    [8, 9],
  );
  assert.deepEqual(only('{"name": "f", "type": "qlist", "size": 1}', [0]).value, []);
});

test('trees have a key before each value, a number or a struct', () => {
  const direct = only(
    `{"name": "f", "type": "gtree", ${INLINED}, "size": 15}`,
    [0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 5, 9, 0],
  ).value;
  assert.ok(Array.isArray(direct) && Array.isArray(direct[0]), 'direct is not an array');
  assert.equal(direct[0][0], 5n);
  const keyed = only(
    `{"name": "f", "type": "gtree", ${INLINED}, ${INLINED}, "size": 8}`,
    [0, 0, 0, 1, 1, 3, 9, 0],
  ).value;
  assert.ok(Array.isArray(keyed) && Array.isArray(keyed[0]), 'keyed is not an array');
  assert.deepEqual(
    keyed[0].map((part) => (part as DecodedDevice).fields[0]?.value),
    [3, 9],
  );
  assert.deepEqual(only('{"name": "f", "type": "gtree", "size": 5}', [0, 0, 0, 0, 0]).value, []);
});

test('subsections are found behind the fields', () => {
  const more =
    ', "subsections": [{"vmsd_name": "d/s", "version": 2, "fields": [{"name": "x", "type": "uint8", "size": 1}]}]';
  const device = decode(field('uint8', 1), [1, 5, 3, 0x64, 0x2f, 0x73, 0, 0, 0, 2, 7], more);
  const [subsection] = device.subsections;
  assert.ok(subsection?.kind === 'struct', `the subsection is ${subsection?.kind}`);
  assert.deepEqual(
    [subsection.vmsdName, subsection.offset, subsection.length, subsection.fields[0]?.value],
    ['d/s', 1, 10, 7],
  );
});

test('devices with a save function of their own are one field of bytes', () => {
  const text = '{"devices": [{"name": "old", "instance_id": 0, "size": 2}]}';
  const [device] = atOnce(descriptionSteps(text)).devices;
  assert.ok(device, 'there is no device');
  const decoded = decodeDevice(device, Uint8Array.of(1, 2));
  assert.deepEqual(
    decoded.fields.map(({ name, value }) => [name, value]),
    [['data', Uint8Array.of(1, 2)]],
  );
});

test('what does not fit is kept as bytes, and what follows is decoded', () => {
  const wrong = '{"name": "w", "type": "uint32", "size": 3}';
  const struct = `{"name": "s", "type": "struct", "struct": ${STRUCT}, "size": 2}`;
  const list = `{"name": "l", "type": "qtailq", ${INLINED}, "size": 3}`;
  const good = '{"name": "g", "type": "uint8", "size": 1}';
  const device = decodeDevice(
    described([wrong, struct, list, good].join(', ')),
    Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8, 9),
  );
  assert.deepEqual(
    device.fields.map(({ name, value }) => [name, value]),
    [
      [
        'w',
        {
          kind: 'undecoded',
          reason: 'uint32 of 3 bytes',
          offset: 0,
          length: 3,
          bytes: Uint8Array.of(1, 2, 3),
        },
      ],
      [
        's',
        {
          kind: 'undecoded',
          reason: 's is described with 1 bytes but has 2',
          offset: 3,
          length: 2,
          bytes: Uint8Array.of(4, 5),
        },
      ],
      [
        'l',
        {
          kind: 'undecoded',
          reason: 'the list is not as described',
          offset: 5,
          length: 3,
          bytes: Uint8Array.of(6, 7, 8),
        },
      ],
      ['g', 9],
    ],
  );
});

test('data that end early or late are said so', () => {
  const short = decodeDevice(described(field('uint32', 4)), Uint8Array.of(1, 2));
  assert.deepEqual(short.fields[0]?.value, {
    kind: 'undecoded',
    reason: 'the data end inside f',
    offset: 0,
    length: 2,
    bytes: Uint8Array.of(1, 2),
  });
  const long = decodeDevice(described(field('uint8', 1)), Uint8Array.of(1, 2, 3));
  assert.deepEqual(long.rest?.bytes, Uint8Array.of(2, 3));
});

test('a description that asks for endless work is cut off', () => {
  const inner = `{"vmsd_name": "s", "version": 1, "fields": [${`${field('uint8', 0)}, `.repeat(300)}${field('uint8', 1)}]}`;
  const fields = `{"name": "f", "array_len": 100000, "type": "struct", "struct": ${inner}, "size": 1}`;
  const device = decodeDevice(described(fields), new Uint8Array(100_000));
  const elements = device.fields[0]?.value;
  assert.ok(Array.isArray(elements) && elements.length < 5000, 'all elements were decoded');
  assert.match(JSON.stringify(elements.at(-1), ['reason']), /more than 1000000 values/);
});

test('decoding never throws', () => {
  const types = ['uint32', 'struct', 'qtailq', 'gtree', 'capability', 'nullptr', 'buffer', 'tmp', 'bitmap'];
  const anyField = fc.record({
    type: fc.constantFrom(...types),
    size: fc.oneof(fc.nat(20), fc.constant(2 ** 53 - 1)),
    array: fc.option(fc.oneof(fc.nat(5), fc.constant(2 ** 53 - 1))),
    inner: fc.constantFrom('', `, ${INLINED}`, `, "struct": ${STRUCT}`),
  });
  fc.assert(
    fc.property(fc.array(anyField, { maxLength: 6 }), fc.uint8Array({ maxLength: 64 }), (fields, data) => {
      const text = fields.map(({ type, size, array, inner }) =>
        array === null
          ? `{"name": "f", "type": "${type}", "size": ${size}${inner}}`
          : `{"name": "f", "array_len": ${array}, "type": "${type}", "size": ${size}${inner}}`,
      );
      const device = decodeDevice(described(text.join(', ')), data);
      assert.ok(device.length <= data.byteLength, `length: ${device.length}`);
      assert.equal(device.length + (device.rest?.length ?? 0), data.byteLength);
    }),
  );
});
