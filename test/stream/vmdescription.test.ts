import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type JsonEntry, JsonObject, parseDescriptionJson } from '../../src/stream/description-json.js';
import { outlineSteps } from '../../src/stream/description-outline.js';
import { StreamLimit } from '../../src/stream/format.js';
import { SLICE_LENGTH } from '../../src/stream/slices.js';
import {
  describedBytes,
  descriptionKey,
  descriptionSteps,
  type VmDescription,
} from '../../src/stream/vmdescription.js';
import { appendDescriptionKey } from '../../src/stream/vmdescription-text.js';
import { goldenBytes, goldenNames } from '../golden/golden-file.js';
import { atOnce, inPauses } from './at-once.js';

function described(text: string): VmDescription {
  return atOnce(descriptionSteps(text));
}

const extentsOf = (text: string) => atOnce(outlineSteps(text)).devices;

/** The value as plain JavaScript, for texts without repeated keys. */
function plain(value: unknown): unknown {
  if (value instanceof JsonObject) {
    return Object.fromEntries(value.entries.map((entry: JsonEntry) => [entry.key, plain(entry.value)]));
  }
  return Array.isArray(value) ? value.map(plain) : value;
}

test('reads any JSON as JSON.parse does', () => {
  // An object literal with the key __proto__ would set the prototype.
  const value = fc
    .jsonValue({ noUnicodeString: false })
    .filter((json) => !JSON.stringify(json).includes('__proto__'));
  fc.assert(
    fc.property(value, fc.constantFrom(undefined, 2), (json, indent) => {
      const text = JSON.stringify(json, null, indent);
      assert.deepEqual(plain(parseDescriptionJson(text)), JSON.parse(text));
    }),
  );
});

test('keeps all of several entries with the same key', () => {
  const object = parseDescriptionJson('{"a": 1, "b": 2, "a": [3]}') as JsonObject;
  assert.deepEqual(
    object.entries.map(({ key, value }) => [key, value]),
    [
      ['a', 1],
      ['b', 2],
      ['a', [3]],
    ],
  );
  assert.equal(object.get('a'), 1);
});

test('NUL bytes and white space may follow, other text may not', () => {
  assert.equal(parseDescriptionJson(' 5 \n\0\0'), 5);
  for (const text of ['', '{', '{"a" 1}', '[1,]', '{} x', '"\\q"', '"open', 'nul', '-', '{1: 2}', '\0']) {
    assert.throws(() => parseDescriptionJson(text), SyntaxError, text);
  }
});

test('endless nesting is refused instead of overflowing the stack', () => {
  assert.throws(() => parseDescriptionJson('['.repeat(100_000)), /more than 200 levels/);
});

test('sizes add up over arrays, structs and subsections', () => {
  const { devices } = described(
    JSON.stringify({
      page_size: 4096,
      devices: [
        {
          name: 'x',
          instance_id: 3,
          vmsd_name: 'x',
          version: 2,
          fields: [
            { name: 'a', type: 'uint32', size: 4 },
            { name: 'b', array_len: 5, type: 'uint16', size: 2 },
            { name: 'c', type: 'struct', struct: { vmsd_name: 'c', version: 1, fields: [] }, size: 9 },
          ],
          subsections: [{ vmsd_name: 'x/y', version: 1, fields: [{ name: 'd', type: 'bool', size: 1 }] }],
        },
      ],
    }),
  );
  assert.equal(devices.length, 1);
  assert.deepEqual([devices[0]?.name, devices[0]?.instanceId, devices[0]?.version], ['x', 3, 2]);
  assert.equal(describedBytes(devices[0] as (typeof devices)[0]), 4 + 10 + 9 + (1 + 1 + 3 + 4 + 1));
});

test('what is not as it should be in a description is left out, not fatal', () => {
  const description = described('{"page_size": "x", "devices": [7, {"name": 5, "fields": {"a": 1}}, {}]}');
  assert.equal(description.pageSize, undefined);
  assert.deepEqual(
    description.devices.map(({ name, fields }) => [name, fields.length]),
    [
      ['', 0],
      ['', 0],
    ],
  );
  assert.throws(() => described('[]'), SyntaxError);
});

test('a key appended to a description can be read, and the rest is as it was', () => {
  const value = { chunks: ['a', 'b'], size: 5 };
  const original = '{"devices": [], "a": 1, "a": 2}';
  const appended = appendDescriptionKey(original, 'mapram', value);
  assert.ok(appended.startsWith(original.slice(0, -1)), 'what was there before has changed');
  assert.deepEqual(descriptionKey(described(appended), 'mapram'), value);
  assert.equal(descriptionKey(described(original), 'mapram'), undefined);
  for (const empty of [undefined, '', '{}', ' { } ']) {
    assert.deepEqual(JSON.parse(appendDescriptionKey(empty, 'mapram', value)), { mapram: value });
  }
  assert.throws(() => appendDescriptionKey('[]', 'mapram', value), RangeError);
});

test('devices are read as from the whole text at once', () => {
  const texts = goldenNames('').flatMap((name) => descriptionIn(goldenBytes(name)) ?? []);
  assert.ok(texts.length > 10, `${texts.length} descriptions`);
  for (const text of texts) {
    const { devices, keys, pageSize, configuration } = described(text);
    const root = parseDescriptionJson(text) as JsonObject;
    assert.deepEqual(
      keys,
      root.entries.map(({ key, start, end }) => ({ key, start, end })),
    );
    assert.equal(pageSize, root.get('page_size'));
    assert.equal(
      configuration?.vmsdName,
      (root.get('configuration') as JsonObject | undefined)?.get('vmsd_name'),
    );
    const whole = root.get('devices') as JsonObject[];
    assert.equal(devices.length, whole.length);
    for (const [index, device] of devices.entries()) {
      // A device alone, so that none was read before it.
      const { start, end } = extentsOf(text)[index] as { start: number; end: number };
      assert.deepEqual(described(`{"devices": [${text.slice(start, end)}]}`).devices, [device]);
      assert.deepEqual(plain(parseDescriptionJson(text.slice(start, end))), plain(whole[index]));
    }
  }
});

test('the outline of any object is that of whole parsing', () => {
  const value = fc.dictionary(fc.string(), fc.jsonValue());
  const devices = fc.array(fc.oneof(fc.dictionary(fc.string(), fc.jsonValue()), fc.jsonValue()));
  fc.assert(
    fc.property(value, devices, fc.constantFrom(undefined, 2), (more, list, indent) => {
      const text = JSON.stringify({ ...more, devices: list }, null, indent);
      const { keys, devices: extents } = atOnce(outlineSteps(text));
      const root = parseDescriptionJson(text) as JsonObject;
      assert.deepEqual(
        keys,
        root.entries.map(({ key, start, end }) => ({ key, start, end })),
      );
      assert.deepEqual(
        extents.map(({ start, end }) => plain(parseDescriptionJson(text.slice(start, end)))),
        (root.get('devices') as unknown[]).map(plain),
      );
    }),
  );
});

test('what is no object is refused, wherever it breaks off', () => {
  const text = '{"devices": [{"name": "a"}, {"name": "]}"}], "page_size": 4096}';
  assert.equal(described(`${text} \0\0 \n`).devices.length, 2);
  for (let end = 0; end < text.length; end++) {
    assert.throws(() => described(text.slice(0, end)), SyntaxError, text.slice(0, end));
  }
  for (const wrong of [
    `${text}x`,
    `${text}{}`,
    '{"a" 1}',
    '{"a": 1,}',
    '{,}',
    '{1: 2}',
    '{"a": 1: 2}',
    '"a"',
    '{"devices": [{},]}',
    '{"devices": [,]}',
  ]) {
    assert.throws(() => described(wrong), SyntaxError, wrong);
  }
});

/** As QEMU describes a machine of many processors: four devices each, of which few differ in more than the instance id. */
function manyProcessors(count: number): string {
  const field = (index: number): string =>
    `{"name": "env.register_number_${index}", "type": "uint64", "size": 8}`;
  const fields = Array.from({ length: 38 }, (_, index) => field(index)).join(', ');
  const device = (name: string, id: number): string => {
    const more =
      id === 0 || name !== 'cpu'
        ? ''
        : `, "subsections": [{"vmsd_name": "cpu/x", "version": 1, "fields": [${field(0)}]}]`;
    return `{"name": "${name}", "instance_id": ${id}, "vmsd_name": "${name}", "version": 12, "fields": [${fields}]${more}}`;
  };
  const devices: string[] = [];
  for (let id = 0; id < count; id++)
    devices.push(device('cpu_common', id), device('cpu', id), device('apic', id));
  return `{"page_size": 4096, "devices": [${devices.join(', ')}]}`;
}

test('a machine of 4096 processors is read, in slices, its equal devices once (F9)', () => {
  const text = manyProcessors(4096);
  assert.ok(text.length > 31e6 && text.length < StreamLimit.VMDESCRIPTION_BYTES, `${text.length} characters`);
  const { result, pauses } = inPauses(descriptionSteps(text));
  assert.equal(result.devices.length, 3 * 4096);
  const [, first, , , second, , , third] = result.devices;
  assert.deepEqual(
    [first, second, third].map(
      (device) => device && [device.name, device.instanceId, describedBytes(device)],
    ),
    [
      ['cpu', 0, 304],
      ['cpu', 1, 304 + 1 + 1 + 5 + 4 + 8],
      ['cpu', 2, 304 + 1 + 1 + 5 + 4 + 8],
    ],
  );
  assert.equal(second?.fields, third?.fields);
  assert.notEqual(first?.fields, second?.fields);
  // Once to find the devices, and once to read them.
  assert.ok(pauses.length > (2 * text.length) / SLICE_LENGTH / 1.5, `${pauses.length} pauses`);
  const longest = text.length / (3 * 4096) + 200;
  assert.ok(Math.max(...pauses) < SLICE_LENGTH + longest, `${Math.max(...pauses)} characters at once`);
});

test('a device whose instance id is written twice is not taken for another one', () => {
  const { devices } = described(
    '{"devices": [{"name": "a", "instance_id": 1, "version": 1, "instance_id": 5}, {"name": "a", "instance_id": 2, "version": 1, "instance_id": 5}]}',
  );
  assert.deepEqual(
    devices.map(({ instanceId }) => instanceId),
    [5, 5],
  );
});

test('what a description may hold is bounded for each device and for all (F9)', () => {
  const values = (count: number): string => `{"a": [${'0,'.repeat(count)}0]}`;
  assert.equal(described(`{"devices": [${values(2 ** 17 - 10)}]}`).devices.length, 1);
  for (const [text, message] of [
    [`{"devices": [${values(2 ** 17)}]}`, /more than 131072 values/],
    [`{"devices": [${`${values(2 ** 16)},`.repeat(8)}{}]}`, /more than \d+ values/],
    [`{"devices": [${'[],'.repeat(2 ** 17)}[]]}`, /more than 131072 devices/],
    [`{${'"a":1,'.repeat(2 ** 12)}"a":1}`, /more than 4096 keys/],
  ] as const) {
    assert.throws(() => described(text), message);
  }
});

test('of keys that are there twice the first one counts, however they are written', () => {
  for (const second of ['"mapram": 2', '"\\u006dapram": 2', '"mapram" :2', '"other": "mapram"']) {
    const description = described(`{"devices": [], "mapram": 1, ${second}}`);
    assert.equal(descriptionKey(description, 'mapram'), 1, second);
  }
  const twice = '{"devices": [], "mapram": {"mapram": 1}, "mapram": {"mapram": 2}}';
  assert.deepEqual(descriptionKey(described(twice), 'mapram'), { mapram: 1 });
});

test('endless nesting of devices is refused instead of overflowing the stack', () => {
  const open = '{"vmsd_name": "x", "fields": [{"name": "a", "struct": ';
  const text = `{"devices": [${open.repeat(5000)}{}${'}]}'.repeat(5000)}]}`;
  assert.throws(() => described(text), SyntaxError);
});

/** The vmdescription at the end of a golden file, if it has one that is not compressed. */
function descriptionIn(bytes: Uint8Array): string | undefined {
  const text = Buffer.from(bytes).toString('latin1');
  const start = Math.max(text.lastIndexOf('{"configuration":'), text.lastIndexOf('{"page_size":'));
  return start === -1 ? undefined : text.slice(start, text.lastIndexOf('}') + 1);
}
