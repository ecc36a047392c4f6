/** Pages in any order, again and again, zero and not: the file, its bits, its digests and its holes come out right. */

import assert from 'node:assert/strict';
import { closeSync, constants, fstatSync, ftruncateSync, openSync, readSync, rmSync } from 'node:fs';
import path from 'node:path';
import { before, test } from 'node:test';
import fc from 'fast-check';
import type { ChannelBlock } from '../../src/channels/channel-block.js';
import { noPieces, releaseUnusedSlots } from '../../src/channels/file/slot-allocation.js';
import { PagePlacer } from '../../src/channels/page-placer.js';
import { arrivalDigester } from '../../src/checksums/arrival-digester.js';
import { createChunkHasher, type DigestAlgorithm } from '../../src/checksums/chunk-hash.js';
import { CHUNK_STATE, DigestTable } from '../../src/checksums/digest-table.js';
import { installFaults } from '../../src/io/faults.js';
import { PageBitmap } from '../../src/mapped-ram/bitmap.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const pageSize = 4096;
const pageCount = 700;
const pagesOffset = 2 ** 20;
const chunkBytes = 16 * pageSize;
const length = pageCount * pageSize;

let folder = '';
before(() => {
  folder = temporaryFolder('placer');
});

interface Placing {
  fd: number;
  block: ChannelBlock;
  bitmap: PageBitmap;
  table: DigestTable;
  placer: PagePlacer;
  /** All that place pages into the file, each for a connection of its own; the first is `placer`. */
  placers: PagePlacer[];
}

async function withPlacer(
  work: (placing: Placing) => Promise<void>,
  { algorithm = 'xxh64', connections = 1 }: { algorithm?: DigestAlgorithm; connections?: number } = {},
): Promise<void> {
  const file = path.join(folder, 'file');
  const fd = openSync(
    file,
    constants.O_RDWR | constants.O_CREAT | constants.O_TRUNC | constants.O_DIRECT,
    0o600,
  );
  // As in a real one, where the device state lies behind; the kernel gives nothing back behind the end of a file.
  ftruncateSync(fd, pagesOffset + length + 4096);
  const bitmap = PageBitmap.shared(pageCount);
  const table = DigestTable.create({ algorithm, chunkBytes, length });
  const block: ChannelBlock = {
    idstr: 'ram',
    usedLength: length,
    pageSize,
    pagesOffset,
    bitmap: bitmap.buffer as SharedArrayBuffer,
    allocated: noPieces(length),
    digests: table.shape,
  };
  const placers: PagePlacer[] = [];
  while (placers.length < connections) {
    const digester = await arrivalDigester([block], connections);
    const options = { name: 'made', direct: true, blocks: [block], ...(digester ? { digester } : {}) };
    placers.push(new PagePlacer(fd, options));
  }
  try {
    const [placer] = placers as [PagePlacer];
    await work({ fd, block, bitmap, table, placer, placers });
  } finally {
    for (const placer of placers) await placer.close();
    closeSync(fd);
    rmSync(file);
  }
}

const pageOf = (value: number): Buffer => Buffer.alloc(pageSize, value);

/** Contents of all slots, read past what was written last. */
function slots(fd: number): Buffer {
  const contents = Buffer.alloc(length);
  const buffered = openSync(`/proc/self/fd/${fd}`, constants.O_RDONLY);
  readSync(buffered, contents, 0, length, pagesOffset);
  closeSync(buffered);
  return contents;
}

/** Runs of pages with a value each; 0 means zero pages. */
const steps = fc.array(
  fc.record({
    first: fc.nat(pageCount - 1),
    count: fc.oneof(fc.constant(1), fc.integer({ min: 1, max: 600 })),
    value: fc.oneof(
      { arbitrary: fc.constant(0), weight: 1 },
      { arbitrary: fc.integer({ min: 1, max: 255 }), weight: 3 },
    ),
  }),
  { minLength: 1, maxLength: 25 },
);

async function play(
  placer: PagePlacer,
  model: Uint8Array,
  runs: { first: number; count: number; value: number }[],
) {
  for (const { first, count, value } of runs) {
    const pages = Math.min(count, pageCount - first);
    model.fill(value, first, first + pages);
    if (value === 0) await placer.zeroPages('ram', first * pageSize, pages * pageSize);
    else
      await placer.pages(
        'ram',
        first * pageSize,
        Array.from({ length: pages }, () => pageOf(value)),
      );
  }
  await placer.finish();
}

function assertHolds({ fd, bitmap }: Placing, model: Uint8Array): void {
  const contents = slots(fd);
  for (const [page, value] of model.entries()) {
    assert.equal(bitmap.test(page), value !== 0, `bit of page ${page}`);
    const slot = contents.subarray(page * pageSize, (page + 1) * pageSize);
    assert.ok(slot.equals(pageOf(value)), `page ${page} is ${slot[0]}, not ${value}`);
  }
}

test('the last copy of every page is what the file holds', async () => {
  await fc.assert(
    fc.asyncProperty(steps, (runs) =>
      withPlacer(async (placing) => {
        const model = new Uint8Array(pageCount);
        await play(placing.placer, model, runs);
        assertHolds(placing, model);
        await releaseUnusedSlots(placing.fd, [placing.block]);
        assertHolds(placing, model);
      }),
    ),
    { numRuns: 60 },
  );
});

test('short writes and calls that must be repeated lose nothing', async () => {
  await withPlacer(async (placing) => {
    using _ = installFaults([
      { call: 'write', nth: 1, times: 3, maximumBytes: pageSize },
      { call: 'write', nth: 5, errno: 'EAGAIN' },
    ]);
    const model = new Uint8Array(pageCount);
    await play(placing.placer, model, [
      { first: 0, count: 600, value: 7 },
      { first: 3, count: 2, value: 9 },
    ]);
    assertHolds(placing, model);
  });
});

test('a write that fails is told at the latest when everything is to be in the file', async () => {
  await withPlacer(async ({ placer }) => {
    using _ = installFaults([{ call: 'write', nth: 1, errno: 'EIO' }]);
    await placer.pages('ram', 0, [pageOf(1)]);
    await assert.rejects(placer.finish(), { code: 'EIO' });
  });
});

/** The digest of a chunk of pages with a value each, 0 for those that are zero. */
async function digestOf(algorithm: DigestAlgorithm, model: Uint8Array, chunk: number): Promise<Buffer> {
  const hasher = createChunkHasher(algorithm, pageSize);
  const first = (chunk * chunkBytes) / pageSize;
  for (const [index, value] of model.subarray(first, first + chunkBytes / pageSize).entries())
    if (value !== 0) hasher.update(pageOf(value), (first + index) * pageSize);
  const digest = Buffer.alloc(8);
  hasher.finish(digest);
  return digest;
}

for (const [algorithm, connections] of [
  ['xxh64', 1],
  ['xxh64-pages', 1],
  ['xxh64-pages', 3],
] as const) {
  test(`${algorithm}, ${connections} connections: digests are those of the pages, or missing where pages came again`, async () => {
    await fc.assert(
      fc.asyncProperty(steps, (runs) =>
        withPlacer(
          async ({ placers, table }) => {
            const model = new Uint8Array(pageCount);
            for (const [step, run] of runs.entries())
              await play(placers[step % connections] as PagePlacer, model, [run]);
            for (let chunk = 0; chunk < table.count; chunk++) {
              if (table.state(chunk) !== CHUNK_STATE.done) continue;
              const expected = await digestOf(algorithm, model, chunk);
              assert.deepEqual(Buffer.from(table.digest(chunk)), expected, `chunk ${chunk}`);
            }
          },
          { algorithm, connections },
        ),
      ),
      { numRuns: 40 },
    );
  });
}

test('pages in ascending order are all digested', async () => {
  await withPlacer(async ({ placer, table }) => {
    await play(placer, new Uint8Array(pageCount), [
      { first: 0, count: 5, value: 3 },
      { first: 5, count: 2, value: 0 },
      { first: 7, count: 693, value: 4 },
    ]);
    for (let chunk = 0; chunk < table.count; chunk++) assert.equal(table.state(chunk), CHUNK_STATE.done);
  });
});

test('pages that come once are all digested, in whatever order and by whichever connection', async () => {
  const pages = Array.from({ length: pageCount }, (_, page) => page);
  const orders = fc.shuffledSubarray(pages, { minLength: pageCount, maxLength: pageCount });
  await fc.assert(
    fc.asyncProperty(orders, (order) =>
      withPlacer(
        async ({ placers, table }) => {
          const model = new Uint8Array(pageCount);
          for (const [index, page] of order.entries()) {
            const placer = placers[index % placers.length] as PagePlacer;
            model[page] = 1 + (page % 255);
            await placer.pages('ram', page * pageSize, [pageOf(1 + (page % 255))]);
          }
          for (const placer of placers) await placer.finish();
          for (let chunk = 0; chunk < table.count; chunk++) {
            assert.equal(table.state(chunk), CHUNK_STATE.done, `chunk ${chunk}`);
            const expected = await digestOf('xxh64-pages', model, chunk);
            assert.deepEqual(Buffer.from(table.digest(chunk)), expected, `chunk ${chunk}`);
          }
        },
        { algorithm: 'xxh64-pages', connections: 4 },
      ),
    ),
    { numRuns: 10 },
  );
});

test('a page of which two connections bring a copy at once counts once, and its chunk is read again', async () => {
  await withPlacer(
    async ({ placers, table }) => {
      for (const placer of placers) await placer.pages('ram', 0, [pageOf(3)]);
      for (const placer of placers) await placer.finish();
      assert.equal(table.state(0), CHUNK_STATE.stale);
    },
    { algorithm: 'xxh64-pages', connections: 2 },
  );
});

test('space that was reserved for pages that never came is given back', async () => {
  await withPlacer(async ({ placer, fd, block }) => {
    await play(placer, new Uint8Array(pageCount), [{ first: 100, count: 50, value: 1 }]);
    const allocated = () => fstatSync(fd).blocks * 512;
    const reserved = allocated();
    await releaseUnusedSlots(fd, [block]);
    const pages = 50 * pageSize;
    assert.ok(allocated() >= pages && allocated() <= pages + 2 ** 20, `${allocated()} bytes of ${reserved}`);
  });
});
