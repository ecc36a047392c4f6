import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { JsonReader } from '../../src/json/json-reader.js';
import { JsonDouble } from '../../src/json/json-value.js';
import { writeJson } from '../../src/json/json-writer.js';

function read(text: string | Uint8Array, reader = new JsonReader()): unknown[] {
  const bytes = typeof text === 'string' ? Buffer.from(text) : text;
  const messages = [...reader.push(bytes), ...reader.end()];
  return messages.map(({ value, error }) => (error === undefined ? value : { error }));
}

test('what JSON.stringify writes is read as JSON.parse reads it', () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      const [parsed] = read(JSON.stringify(value));
      assert.deepEqual(JSON.parse(writeJson(parsed)), JSON.parse(JSON.stringify(value)));
    }),
  );
});

test('what is written is ASCII, and is read back unchanged', () => {
  const value = fc.letrec((tie) => ({
    any: fc.oneof(
      fc
        .string({ unit: 'binary' })
        .filter((text) => !/[\ufdd0-\ufdef\ufffe\uffff]/.test(text) && !hasPlaneEnd(text)),
      fc.bigInt({ min: -(2n ** 63n), max: 2n ** 64n - 1n }),
      fc.boolean(),
      fc.constant(null),
      fc.array(tie('any'), { maxLength: 4 }),
      fc.dictionary(fc.string(), tie('any'), { maxKeys: 4 }),
    ),
  })).any;
  const narrow = (part: unknown): unknown =>
    typeof part === 'bigint' && BigInt.asIntN(54, part) === part ? Number(part) : part;
  fc.assert(
    fc.property(value, (any) => {
      const text = writeJson(any);
      assert.match(text, /^[\x20-\x7e]*$/);
      assert.equal(writeJson(read(text)[0]), text);
      if (typeof any === 'bigint') assert.equal(read(text)[0], narrow(any));
    }),
  );
});

/** U+1FFFE, U+2FFFF and their like, which QEMU refuses in JSON. */
function hasPlaneEnd(text: string): boolean {
  return [...text].some((char) => ((char.codePointAt(0) as number) & 0xfffe) === 0xfffe);
}

test('however the bytes are cut, the messages are the same', () => {
  const piece = fc.oneof(
    fc.constantFrom(
      '{',
      '}',
      '[',
      ']',
      ':',
      ',',
      '"a"',
      "'b'",
      '1',
      '-',
      '1.5',
      'e',
      'true',
      'nul',
      ' ',
      '\n',
      '\\',
      '"',
      '\x01',
      '@',
      'é',
    ),
    fc.json(),
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 20 }), fc.array(fc.nat(40)), (pieces, cuts) => {
      const bytes = Buffer.from(pieces.join(''));
      const whole = read(bytes);
      const reader = new JsonReader();
      const parts: unknown[] = [];
      let at = 0;
      for (const cut of [...cuts, bytes.length]) {
        const chunk = bytes.subarray(at, at + cut);
        at += chunk.length;
        for (const { value, error } of reader.push(chunk))
          parts.push(error === undefined ? value : { error });
      }
      for (const { value, error } of reader.push(bytes.subarray(at))) {
        parts.push(error === undefined ? value : { error });
      }
      for (const { value, error } of reader.end()) parts.push(error === undefined ? value : { error });
      assert.deepEqual(parts, whole);
    }),
  );
});

test('64-bit integers stay integers, everything else with a point or beyond is a double', () => {
  assert.deepEqual(read('18446744073709551615 -9223372036854775808 9007199254740991 9007199254740992'), [
    18446744073709551615n,
    -9223372036854775808n,
    9007199254740991,
    9007199254740992n,
  ]);
  for (const text of ['1.0', '1e3', '18446744073709551616', '-9223372036854775809', '1e400']) {
    const [value] = read(text);
    assert.ok(value instanceof JsonDouble, text);
    assert.equal(writeJson(value), text);
  }
});

test('values need nothing between them, and may span lines', () => {
  assert.deepEqual(read('{"a":1}{"b":\n2}[3]"x"\'y\'null'), [{ a: 1 }, { b: 2 }, [3], 'x', 'y', null]);
});

test('a key named __proto__ is a key', () => {
  const [value] = read('{"__proto__": {"polluted": 1}}');
  assert.deepEqual(Object.keys(value as object), ['__proto__']);
  assert.equal(({} as { polluted?: number }).polluted, undefined);
});
