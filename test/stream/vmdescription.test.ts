import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type JsonEntry, JsonObject, parseDescriptionJson } from '../../src/stream/description-json.js';
import { describedBytes, descriptionKey, parseVmDescription } from '../../src/stream/vmdescription.js';
import { appendDescriptionKey } from '../../src/stream/vmdescription-text.js';

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
  const { devices } = parseVmDescription(
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
  const description = parseVmDescription(
    '{"page_size": "x", "devices": [7, {"name": 5, "fields": {"a": 1}}, {}]}',
  );
  assert.equal(description.pageSize, undefined);
  assert.deepEqual(
    description.devices.map(({ name, fields }) => [name, fields.length]),
    [
      ['', 0],
      ['', 0],
    ],
  );
  assert.throws(() => parseVmDescription('[]'), SyntaxError);
});

test('a key appended to a description can be read, and the rest is as it was', () => {
  const value = { chunks: ['a', 'b'], size: 5 };
  const original = '{"devices": [], "a": 1, "a": 2}';
  const appended = appendDescriptionKey(original, 'mapram', value);
  assert.ok(appended.startsWith(original.slice(0, -1)));
  assert.deepEqual(descriptionKey(parseVmDescription(appended), 'mapram'), value);
  assert.equal(descriptionKey(parseVmDescription(original), 'mapram'), undefined);
  for (const empty of [undefined, '', '{}', ' { } ']) {
    assert.deepEqual(JSON.parse(appendDescriptionKey(empty, 'mapram', value)), { mapram: value });
  }
  assert.throws(() => appendDescriptionKey('[]', 'mapram', value), RangeError);
});
