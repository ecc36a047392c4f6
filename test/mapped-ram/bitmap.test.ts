import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { PageBitmap } from '../../src/mapped-ram/bitmap.js';

test('bits are laid out least significant first and padded to 8 bytes', () => {
  const bitmap = new PageBitmap(65);
  for (const page of [0, 9, 64]) bitmap.set(page);
  assert.deepEqual([...bitmap.bytes], [1, 2, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
  assert.deepEqual([0, 1, 64, 65, 128, 512].map(PageBitmap.byteLength), [0, 8, 8, 16, 16, 64]);
});

test('runs, counts and next positions agree with a plain array of booleans', () => {
  const operation = fc.record({
    first: fc.nat(299),
    count: fc.nat(120),
    set: fc.boolean(),
  });
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 300 }),
      fc.array(operation, { maxLength: 12 }),
      fc.boolean(),
      (pageCount, operations, shared) => {
        const bitmap = shared ? PageBitmap.shared(pageCount) : new PageBitmap(pageCount);
        const model = new Array<boolean>(pageCount).fill(false);
        for (const { first, count, set } of operations) {
          const from = Math.min(first, pageCount);
          const length = Math.min(count, pageCount - from);
          model.fill(set, from, from + length);
          if (set) bitmap.setRange(from, length);
          else bitmap.clearRange(from, length);
        }
        assert.deepEqual(
          model.map((_, page) => bitmap.test(page)),
          model,
        );
        assert.equal(bitmap.count(), model.filter(Boolean).length);
        assert.equal(bitmap.strayBits(), 0);
        const fromRuns = new Array<boolean>(pageCount).fill(false);
        let end = -1;
        for (const run of bitmap.runs()) {
          assert.ok(run.first > end, 'runs are ascending and never touch');
          end = run.first + run.count;
          fromRuns.fill(true, run.first, end);
        }
        assert.deepEqual(fromRuns, model);
        const fromClear = new Array<boolean>(pageCount).fill(true);
        for (const run of bitmap.clearRuns()) fromClear.fill(false, run.first, run.first + run.count);
        assert.deepEqual(fromClear, model);
        for (let page = 0; page <= pageCount; page++) {
          const next = model.indexOf(true, page);
          assert.equal(bitmap.nextSet(page), next === -1 ? pageCount : next);
        }
        assert.deepEqual(PageBitmap.fromBytes(pageCount, bitmap.bytes).bytes, new Uint8Array(bitmap.bytes));
      },
    ),
  );
});

test('runs keep to a range of pages and a greatest length', () => {
  const bitmap = new PageBitmap(1000);
  bitmap.setRange(10, 900);
  assert.deepEqual(
    [...bitmap.runs(100, 400, 128)],
    [
      { first: 100, count: 128 },
      { first: 228, count: 128 },
      { first: 356, count: 44 },
    ],
  );
});

test('setting and clearing single pages', () => {
  const bitmap = new PageBitmap(40);
  bitmap.set(33);
  bitmap.set(34);
  bitmap.clear(33);
  assert.deepEqual([...bitmap.runs()], [{ first: 34, count: 1 }]);
});

test('bits past the last page are counted as stray and never handed out', () => {
  const bytes = new Uint8Array(8).fill(0xff);
  const bitmap = PageBitmap.fromBytes(3, bytes);
  assert.deepEqual([bitmap.count(), bitmap.strayBits(), bitmap.nextClear(0)], [3, 61, 3]);
  assert.deepEqual([...bitmap.runs()], [{ first: 0, count: 3 }]);
});

test('a page outside the block is a RangeError', () => {
  const bitmap = new PageBitmap(8);
  assert.throws(() => bitmap.set(8), RangeError);
  assert.throws(() => bitmap.setRange(4, 5), RangeError);
  assert.throws(() => bitmap.clear(-1), RangeError);
  assert.throws(() => new PageBitmap(-1), RangeError);
  assert.throws(() => new PageBitmap(2 ** 33), RangeError);
});
