import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { BlockExtents } from '../../../src/channels/file/block-extents.js';
import { dataExtents, type Extent } from '../../../src/io/file/data-extents.js';
import { MemoryMap, MemoryWindows } from '../../../src/io/memory/memory-map.js';
import { allocated, block, MIB, PAGE, pageOf, pokePage, Scratch } from '../fixtures.js';

function merged(extents: Iterable<Extent>): Extent[] {
  const result: Extent[] = [];
  for (const extent of extents) {
    const last = result.at(-1);
    if (last?.end === extent.start) last.end = extent.end;
    else result.push({ ...extent });
  }
  return result;
}

test('chunk by chunk, mapped or not, the data is found where one walk over the file finds it', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(255), fc.integer({ min: 1, max: 40 })), { maxLength: 8 }),
      fc.constantFrom(0, PAGE, 5 * PAGE),
      fc.constantFrom(8 * PAGE, 64 * PAGE),
      (stretches, offset, chunkBytes) => {
        using scratch = new Scratch();
        const length = MIB - offset;
        const fd = scratch.memory(MIB);
        for (const [first, count] of stretches) {
          for (let page = first; page < Math.min(256, first + count); page++)
            pokePage(fd, page, pageOf(page));
        }
        const before = allocated(fd);
        const expected = merged(dataExtents(fd, offset, MIB)).map(({ start, end }) => ({
          start: start - offset,
          end: end - offset,
        }));
        using map = MemoryMap.open({ fd, offset, length });
        const setup = block(fd, length, { memory: { fd, offset } });
        for (const windows of [new MemoryWindows(map.address), undefined]) {
          const data = new BlockExtents(setup, windows);
          const found: Extent[] = [];
          for (let start = 0; start < length; start += chunkBytes) {
            found.push(...data.extents(start, Math.min(length, start + chunkBytes)));
          }
          assert.deepEqual(merged(found), expected);
        }
        assert.equal(allocated(fd), before);
      },
    ),
    { numRuns: 60 },
  );
});
