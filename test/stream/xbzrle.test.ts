import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { MapramError } from '../../src/errors.js';
import { decodeXbzrle, encodeXbzrle } from '../../src/stream/xbzrle.js';

test('what was encoded is decoded to the page that it was made of', () => {
  const patch = fc.record({ at: fc.nat(4095), bytes: fc.uint8Array({ minLength: 1, maxLength: 300 }) });
  fc.assert(
    fc.property(fc.array(patch, { maxLength: 20 }), (patches) => {
      const before = new Uint8Array(4096).fill(5);
      const after = before.slice();
      for (const { at, bytes } of patches) after.set(bytes.subarray(0, 4096 - at), at);
      const encoded = encodeXbzrle(before, after);
      if (encoded === undefined) return;
      assert.ok(encoded.byteLength <= 4096, `byte length: ${encoded.byteLength}`);
      decodeXbzrle(encoded, before);
      assert.deepEqual(before, after);
    }),
  );
});

test('the wire form is counts and new bytes', () => {
  const before = new Uint8Array(512);
  const after = before.slice();
  after.set([7, 8], 300);
  after[0] = 9;
  assert.deepEqual([...(encodeXbzrle(before, after) ?? [])], [0, 1, 9, 0xab, 0x02, 2, 7, 8]);
  assert.deepEqual([...(encodeXbzrle(before, before) ?? [])], []);
});

test('a page that differs everywhere is better sent whole', () => {
  assert.equal(encodeXbzrle(new Uint8Array(4096), new Uint8Array(4096).fill(1)), undefined);
  assert.throws(() => encodeXbzrle(new Uint8Array(4), new Uint8Array(5)), RangeError);
});

const BROKEN: [string, number[]][] = [
  ['a count is missing', [1]],
  ['a count has more than two bytes', [0x80, 0x80, 1]],
  ['a run of no unchanged bytes', [0, 1, 5, 0, 1, 5]],
  ['a run of no changed bytes', [1, 0]],
  ['changed bytes are missing', [1, 5, 1, 2]],
  ['it reaches past the page', [0xff, 0x1f, 2, 1, 2]],
];

for (const [problem, bytes] of BROKEN) {
  test(`${problem}: refused`, () => {
    assert.throws(
      () => decodeXbzrle(Uint8Array.from(bytes), new Uint8Array(4096)),
      (error) => error instanceof MapramError && error.message.includes(problem),
    );
  });
}
