import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatSize, parseSize } from '../src/size.js';

test('parseSize reads what people write', () => {
  const cases: [string, number | undefined][] = [
    ['0', 0],
    ['4096', 4096],
    ['4096B', 4096],
    ['64k', 65_536],
    ['256M', 256 * 2 ** 20],
    ['256MB', 256 * 2 ** 20],
    ['256MiB', 256 * 2 ** 20],
    ['1.5G', 1.5 * 2 ** 30],
    ['2T', 2 ** 41],
    ['7P', 7 * 2 ** 50],
    ['8P', undefined],
    ['0.3K', undefined],
    ['', undefined],
    ['-1', undefined],
    ['1e3', undefined],
    ['M', undefined],
    ['1 M', undefined],
    ['0x10', undefined],
  ];
  for (const [text, bytes] of cases) assert.equal(parseSize(text), bytes, text);
});

test('formatSize keeps three digits and never prints 1000 of a unit', () => {
  const cases: [number, string][] = [
    [0, '0 B'],
    [999, '999 B'],
    [1000, '0.98 KiB'],
    [1536, '1.5 KiB'],
    [256 * 2 ** 20, '256 MiB'],
    [1023 * 2 ** 20, '1 GiB'],
    [99.96 * 1024, '100 KiB'],
    [12_345_678, '11.8 MiB'],
  ];
  for (const [bytes, text] of cases) assert.equal(formatSize(bytes), text);
});

test('a size that was printed can be read again, near enough', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 2 ** 50 }), (bytes) => {
      const [number, unit] = formatSize(bytes).split(' ');
      const scale = parseSize(`1${unit}`) ?? Number.NaN;
      assert.ok(Math.abs(Number(number) * scale - bytes) <= bytes * 0.006, formatSize(bytes));
      assert.ok(Number(number) < 1000, `number: ${number}`);
    }),
  );
});
