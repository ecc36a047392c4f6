import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  decodeVmState,
  describeVmState,
  encodeVmState,
  type ValuesOf,
  type VmState,
} from '../../../src/guest/builtin/vmstate.js';

const CHANNEL = {
  name: 'channel',
  version: 1,
  fields: [
    { name: 'count', type: 'int16' },
    { name: 'on', type: 'bool' },
  ],
} as const satisfies VmState;

const DEVICE = {
  name: 'device',
  version: 3,
  fields: [
    { name: 'a', type: 'uint8' },
    { name: 'b', type: 'int8' },
    { name: 'c', type: 'uint16' },
    { name: 'd', type: 'uint32' },
    { name: 'e', type: 'int32' },
    { name: 'f', type: 'uint64' },
    { name: 'g', type: 'int64' },
    { name: 'deadline', type: 'timer' },
    { name: 'id', type: 'int32 equal', value: 77 },
    { name: 'gone', type: 'unused_buffer', size: 3 },
    { name: 'bytes', type: 'buffer', size: 4 },
    { name: 'list', type: 'uint16', length: 3 },
    { name: 'channels', type: 'struct', struct: CHANNEL, length: 2 },
    { name: 'main', type: 'struct', struct: CHANNEL },
  ],
  subsections: [
    { name: 'device/extra', member: 'extra', version: 1, fields: [{ name: 'x', type: 'uint8' }] },
    { name: 'device/more', member: 'more', version: 2, fields: [{ name: 'y', type: 'uint8' }] },
  ],
} as const satisfies VmState;

const channel = fc.record(
  { count: fc.integer({ min: -32768, max: 32767 }), on: fc.boolean() },
  { noNullPrototype: true },
);
const signed64 = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });
const values = fc.record(
  {
    a: fc.nat(255),
    b: fc.integer({ min: -128, max: 127 }),
    c: fc.nat(65535),
    d: fc.nat(2 ** 32 - 1),
    e: fc.integer(),
    f: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
    g: signed64,
    deadline: signed64,
    bytes: fc.uint8Array({ minLength: 4, maxLength: 4 }),
    list: fc.array(fc.nat(65535), { minLength: 3, maxLength: 3 }),
    channels: fc.array(channel, { minLength: 2, maxLength: 2 }),
    main: channel,
    extra: fc.record({ x: fc.nat(255) }, { noNullPrototype: true }),
    more: fc.record({ y: fc.nat(255) }, { noNullPrototype: true }),
  },
  {
    noNullPrototype: true,
    requiredKeys: ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'deadline', 'bytes', 'list', 'channels', 'main'],
  },
) as fc.Arbitrary<ValuesOf<typeof DEVICE>>;

test('what is encoded is decoded, whatever follows', () => {
  fc.assert(
    fc.property(values, fc.uint8Array({ maxLength: 8 }), (given, rest) => {
      // A byte 5 behind the data could begin another subsection; in a stream a footer stands there.
      const data = encodeVmState(DEVICE, given);
      const followed = Buffer.concat([data, Uint8Array.of(0x7e), rest]);
      const decoded = decodeVmState(DEVICE, followed, 3);
      assert.deepEqual(decoded.values, given);
      assert.equal(decoded.length, data.length);
    }),
  );
});

test('data that is cut short is refused everywhere', () => {
  fc.assert(
    fc.property(values, fc.nat(), (given, cut) => {
      const { extra: _extra, more: _more, ...plain } = given;
      const data = encodeVmState(DEVICE, plain);
      const short = data.subarray(0, cut % data.length);
      assert.throws(() => decodeVmState(DEVICE, short, 3), /bytes are needed and/);
    }),
  );
});

test('the sizes of the description add up to the data', () => {
  interface Described {
    fields: { size: number; array_len?: number }[];
    subsections?: (Described & { vmsd_name: string })[];
  }
  const size = (part: Described): number =>
    part.fields.reduce((sum, field) => sum + field.size * (field.array_len ?? 1), 0) +
    (part.subsections ?? []).reduce((sum, sub) => sum + 6 + sub.vmsd_name.length + size(sub), 0);
  fc.assert(
    fc.property(values, (given) => {
      const description = describeVmState(DEVICE, given) as Described;
      assert.equal(size(description), encodeVmState(DEVICE, given).length);
    }),
  );
});

const GIVEN: ValuesOf<typeof CHANNEL> = { count: -2, on: true };

test('bytes are big-endian and the description is shaped as in QEMU', () => {
  assert.equal(Buffer.from(encodeVmState(CHANNEL, GIVEN)).toString('hex'), 'fffe01');
  const outer = {
    name: 'outer',
    version: 9,
    fields: [{ name: 'c', type: 'struct', struct: CHANNEL, length: 2 }],
    subsections: [{ name: 'outer/s', member: 's', version: 1, fields: [{ name: 'x', type: 'timer' }] }],
  } as const satisfies VmState;
  const given = { c: [GIVEN, GIVEN], s: { x: -1n } };
  assert.equal(
    Buffer.from(encodeVmState(outer, given)).toString('hex'),
    `fffe01fffe01${'0507'}${Buffer.from('outer/s').toString('hex')}00000001${'f'.repeat(16)}`,
  );
  assert.deepEqual(describeVmState(outer, given), {
    vmsd_name: 'outer',
    version: 9,
    fields: [
      {
        name: 'c',
        array_len: 2,
        type: 'struct',
        struct: {
          vmsd_name: 'channel',
          version: 1,
          fields: [
            { name: 'count', type: 'int16', size: 2 },
            { name: 'on', type: 'bool', size: 1 },
          ],
        },
        size: 3,
      },
    ],
    subsections: [{ vmsd_name: 'outer/s', version: 1, fields: [{ name: 'x', type: 'timer', size: 8 }] }],
  });
});

test('another version, another equal value and an unknown subsection are refused', () => {
  assert.throws(
    () => decodeVmState(CHANNEL, Uint8Array.of(0, 0, 0), 2),
    /version 2 of channel is not supported, only 1/,
  );
  const equal = (value: number) =>
    ({
      name: 'e',
      version: 1,
      fields: [{ name: 'n', type: 'int32 equal', value }],
    }) as const satisfies VmState;
  const data = encodeVmState(equal(5), {});
  assert.throws(() => decodeVmState(equal(6), data, 1), /e\.n is 5, here it is 6/);
  const sub = { name: 'e/new', member: 'new', version: 1, fields: [] } as const;
  const newer = encodeVmState({ ...equal(5), subsections: [sub] }, { new: {} });
  assert.throws(() => decodeVmState(equal(5), newer, 1), /unknown subsection "e\/new"/);
});
