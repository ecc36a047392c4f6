import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type JsonEntry, JsonObject, parseDescriptionJson } from '../../src/stream/description-json.js';
import { describedBytes, descriptionKey, parseVmDescription } from '../../src/stream/vmdescription.js';
import { appendDescriptionKey } from '../../src/stream/vmdescription-text.js';
import { goldenBytes, goldenNames } from '../golden/golden-file.js';

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
  assert.ok(appended.startsWith(original.slice(0, -1)), 'what was there before has changed');
  assert.deepEqual(descriptionKey(parseVmDescription(appended), 'mapram'), value);
  assert.equal(descriptionKey(parseVmDescription(original), 'mapram'), undefined);
  for (const empty of [undefined, '', '{}', ' { } ']) {
    assert.deepEqual(JSON.parse(appendDescriptionKey(empty, 'mapram', value)), { mapram: value });
  }
  assert.throws(() => appendDescriptionKey('[]', 'mapram', value), RangeError);
});

test('a description is the same, whichever of the two readers has read it', () => {
  const texts = goldenNames('').flatMap((name) => descriptionIn(goldenBytes(name)) ?? []);
  assert.ok(texts.length > 10, `${texts.length} descriptions`);
  for (const text of texts) {
    const { text: _, ...quick } = parseVmDescription(text);
    // JSON.parse takes no NUL.
    const { text: __, ...careful } = parseVmDescription(`${text}\0`);
    assert.deepEqual(quick, careful);
  }
});

test('of keys that are there twice the first one counts, however they are written', () => {
  for (const second of ['"mapram": 2', '"\\u006dapram": 2', '"mapram" :2', '"other": "mapram"']) {
    const description = parseVmDescription(`{"devices": [], "mapram": 1, ${second}}`);
    assert.equal(descriptionKey(description, 'mapram'), 1, second);
  }
  const twice = '{"devices": [], "mapram": {"mapram": 1}, "mapram": {"mapram": 2}}';
  assert.deepEqual(descriptionKey(parseVmDescription(twice), 'mapram'), { mapram: 1 });
});

test('endless nesting of devices is refused instead of overflowing the stack', () => {
  const open = '{"vmsd_name": "x", "fields": [{"name": "a", "struct": ';
  const text = `{"devices": [${open.repeat(5000)}{}${'}]}'.repeat(5000)}]}`;
  assert.throws(() => parseVmDescription(text), SyntaxError);
});

/** The vmdescription at the end of a golden file, if it has one that is not compressed. */
function descriptionIn(bytes: Uint8Array): string | undefined {
  const text = Buffer.from(bytes).toString('latin1');
  const start = Math.max(text.lastIndexOf('{"configuration":'), text.lastIndexOf('{"page_size":'));
  return start === -1 ? undefined : text.slice(start, text.lastIndexOf('}') + 1);
}
