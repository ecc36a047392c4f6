import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ChunkGrid } from '../../src/channels/file/chunk-grid.js';
import { clearBits, findBit, setBits, testBit } from '../../src/channels/page-bits.js';
import { isZeroPage, wordsOf } from '../../src/channels/zero-page.js';

const COUNT = 200;
const range = fc
  .tuple(fc.nat(COUNT), fc.nat(COUNT))
  .map(([a, b]) => [Math.min(a, b), Math.max(a, b)] as const);

test('ranges of bits behave like an array of booleans', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(range, fc.boolean())), range, (operations, [from, to]) => {
      const bits = new Uint8Array(COUNT / 8);
      const model: boolean[] = new Array(COUNT).fill(false);
      for (const [[start, end], value] of operations) {
        (value ? setBits : clearBits)(bits, start, end);
        model.fill(value, start, end);
      }
      assert.deepEqual(
        model.map((_, index) => testBit(bits, index)),
        model,
      );
      for (const value of [true, false]) {
        const found = model.findIndex((bit, index) => index >= from && index < to && bit === value);
        assert.equal(findBit(bits, from, to, value), found === -1 ? to : found);
      }
    }),
  );
});

test('bits are stored least significant first', () => {
  const bits = new Uint8Array(2);
  setBits(bits, 1, 2);
  setBits(bits, 8, 9);
  assert.deepEqual([...bits], [0b10, 1]);
});

test('a page is zero only if every byte is', () => {
  fc.assert(
    fc.property(
      fc.constantFrom(512, 4096, 65_536),
      fc.nat(),
      fc.integer({ min: 1, max: 255 }),
      (size, at, value) => {
        const memory = Buffer.alloc(3 * size);
        const words = wordsOf(memory);
        assert.equal(isZeroPage(memory, words, size, size), true);
        memory[size + (at % size)] = value;
        assert.equal(isZeroPage(memory, words, size, size), false);
        assert.equal(isZeroPage(memory, words, 0, size), true);
        assert.equal(isZeroPage(memory, words, 2 * size, size), true);
      },
    ),
  );
});

test('the chunks of a grid cover every block exactly once, in order', () => {
  fc.assert(
    fc.property(fc.array(fc.nat(40), { maxLength: 6 }), fc.constantFrom(4, 16), (pageCounts, chunkPages) => {
      const blocks = pageCounts.map((pages) => ({ usedLength: pages * 4096, pageSize: 4096 }));
      const grid = new ChunkGrid(blocks, chunkPages * 4096);
      const reached = blocks.map(() => 0);
      for (let index = 0; index < grid.count; index++) {
        const chunk = grid.at(index);
        assert.ok(chunk, 'there is no chunk');
        assert.equal(chunk.start, reached[chunk.blockIndex]);
        assert.equal(chunk.firstPage * 4096, chunk.start);
        assert.equal(chunk.endPage * 4096, chunk.end);
        assert.ok(
          chunk.end > chunk.start && chunk.end - chunk.start <= chunkPages * 4096,
          `a chunk from ${chunk.start} to ${chunk.end}`,
        );
        reached[chunk.blockIndex] = chunk.end;
      }
      assert.deepEqual(
        reached,
        blocks.map(({ usedLength }) => usedLength),
      );
      assert.equal(grid.at(grid.count), undefined);
    }),
  );
});
