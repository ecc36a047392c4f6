import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { DirtyLog } from '../../../src/guest/builtin/dirty-log.js';

test('fetching moves exactly the marked pages, least significant bit first, and leaves a clean log', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 300 }), fc.array(fc.nat(299)), (pages, marks) => {
      const log = new DirtyLog(new SharedArrayBuffer(DirtyLog.bytesFor(pages)));
      const expected = new Set(marks.filter((page) => page < pages));
      for (const page of expected) log.mark(page);
      const into = new Uint8Array(DirtyLog.bytesFor(pages));
      assert.equal(log.fetch(into), expected.size);
      for (let page = 0; page < pages; page += 1) {
        assert.equal(((into[page >> 3] ?? 0) >> (page & 7)) & 1, expected.has(page) ? 1 : 0);
      }
      assert.equal(log.fetch(into), 0);
    }),
  );
});

test('fetching adds to what is there', () => {
  const log = new DirtyLog(new SharedArrayBuffer(4));
  const into = Uint8Array.of(0b1000_0000, 0, 0, 0);
  log.mark(0);
  log.mark(31);
  log.fetch(into);
  assert.deepEqual([...into], [0b1000_0001, 0, 0, 0b1000_0000]);
  log.mark(1);
  log.clear();
  assert.equal(log.fetch(into), 0);
});
