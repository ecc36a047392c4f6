import assert from 'node:assert/strict';
import { readdirSync, readlinkSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import { PagedNumbers } from '../../../src/io/file/paged-numbers.js';
import { failsWith } from '../../support/fails-with.js';

const CHUNK_BYTES = 4096;
const options = { memoryBytes: 2 * CHUNK_BYTES, maximumBytes: 2 ** 30, purpose: 'numbers of a test' };

/** Temporary files of this process that hold numbers. */
function openFiles(): number {
  const targets = readdirSync('/proc/self/fd').map((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return '';
    }
  });
  return targets.filter((target) => target.includes('mapram-numbers-')).length;
}

test('numbers that do not fit into memory are those that were set last (F9)', () => {
  const index = fc.integer({ min: 0, max: 20_000 });
  const change = fc.oneof(
    fc.record({ kind: fc.constant('set'), index, value: fc.integer() }),
    fc.record({ kind: fc.constant('clear'), index, value: fc.integer({ min: 0, max: 3000 }) }),
  );
  fc.assert(
    fc.property(fc.array(change, { maxLength: 60 }), index, index, (changes, one, other) => {
      using numbers = new PagedNumbers(options);
      const expected = new Map<number, number>();
      for (const { kind, index: at, value } of changes) {
        if (kind === 'set') {
          numbers.set(at, value);
          expected.set(at, value);
        } else {
          numbers.clear(at, at + value);
          for (const key of expected.keys()) if (key >= at && key < at + value) expected.delete(key);
        }
      }
      for (const [key, value] of expected) assert.equal(numbers.get(key), value);
      const [start, end] = one < other ? [one, other] : [other, one];
      const within = [...expected].filter(([key, value]) => value !== 0 && key >= start && key < end);
      assert.deepEqual(
        [...numbers.indexes(start, end)],
        within.map(([key]) => key).sort((left, right) => left - right),
      );
    }),
  );
});

test('a file without a name is made only when memory is full, and is gone afterwards', () => {
  {
    using numbers = new PagedNumbers(options);
    numbers.set(0, 1);
    numbers.set(1000, 2);
    assert.equal(openFiles(), 0);
    numbers.set(10_000_000, 3);
    assert.equal(openFiles(), 1);
    assert.deepEqual([numbers.get(0), numbers.get(1000), numbers.get(10_000_000)], [1, 2, 3]);
  }
  assert.equal(openFiles(), 0);
});

test('numbers that others are read between are all found', () => {
  using numbers = new PagedNumbers(options);
  for (let index = 0; index < 5000; index += 100) numbers.set(index, index + 1);
  const found: number[] = [];
  for (const index of numbers.indexes(0, 5000)) {
    found.push(numbers.get(index));
    for (let other = 0; other < 5000; other += 700) numbers.get(other);
  }
  assert.deepEqual(
    found,
    Array.from({ length: 50 }, (_, index) => 100 * index + 1),
  );
});

test('more chunks than the limit are refused', () => {
  using numbers = new PagedNumbers({ ...options, maximumBytes: 3 * CHUNK_BYTES });
  for (let chunk = 0; chunk < 3; chunk++) numbers.set(chunk * 512, 1);
  assert.throws(
    () => numbers.set(3 * 512, 1),
    failsWith('UNSUPPORTED', /numbers of a test: they are scattered/),
  );
  numbers.set(2 * 512, 2);
  assert.equal(numbers.get(2 * 512), 2);
});
