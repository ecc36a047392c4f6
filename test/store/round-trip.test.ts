import assert from 'node:assert/strict';
import { readFileSync, statSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { describe, test } from 'node:test';
import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import fc from 'fast-check';
import { openStored } from '../../src/snapshot/store/open-saved.js';
import { pullSnapshot } from '../../src/snapshot/store/pull-snapshot.js';
import { pushSnapshot } from '../../src/snapshot/store/push-snapshot.js';
import { levelsFor } from '../../src/store/format.js';
import { Store } from '../../src/store/store.js';
import { verifySnapshot } from '../../src/store/verify-snapshot.js';
import { CHUNK, type Piece, TemporaryStore, writePieces } from './temporary-store.js';

const identity = await generateX25519Identity();
const encryption = { recipients: [await identityToRecipient(identity)] };
const unlock = { identities: [identity] };

/** Contents that compress, that do not, and zeros; any length and place. */
const piece = fc
  .tuple(
    fc.nat(150 * CHUNK),
    fc.integer({ min: 1, max: 3 * CHUNK }),
    fc.constantFrom('random', 'text', 'zero'),
  )
  .map(([offset, length, kind]): Piece => {
    if (kind === 'random') return [offset, length];
    return [
      offset,
      kind === 'text' ? Buffer.alloc(length, 'the same again and again ') : Buffer.alloc(length),
    ];
  });
const pieces = fc.array(piece, { maxLength: 6 });

for (const [kind, settings] of [
  ['plain', undefined],
  ['encrypted', encryption],
] as const) {
  test(`whatever is pushed to a store comes back byte for byte, and so do its changes (${kind})`, async () => {
    using files = new TemporaryStore();
    await Store.init(files.place, settings);
    let count = 0;
    await fc.assert(
      fc.asyncProperty(
        pieces,
        pieces,
        fc.integer({ min: 1, max: 160 * CHUNK }),
        async (first, changes, length) => {
          const file = files.path(`file-${++count}`);
          const to = `${files.place}/vm-${count}`;
          const inside = (all: Piece[]) =>
            all.filter(
              ([offset, bytes]) => offset + (typeof bytes === 'number' ? bytes : bytes.length) <= length,
            );
          for (const written of [inside(first), inside(changes)]) {
            writePieces(file, length, written);
            const pushed = await pushSnapshot({ file, to, unlock });
            const out = files.path('out');
            await pullSnapshot({ from: pushed.address, file: out, force: true, unlock });
            assert.ok(readFileSync(out).equals(readFileSync(file)), 'the pulled file has other contents');
            const partly = (first.length + changes.length) * 2 * CHUNK;
            assert.ok(
              pushed.dataBytes <= statSync(file).blocks * 512 + partly,
              `data bytes: ${pushed.dataBytes}`,
            );
          }
        },
      ),
      { numRuns: 5 },
    );
  });
}

test('reading at any place of a stored file gives what the file has there', async () => {
  using files = new TemporaryStore();
  await Store.init(files.place);
  const file = files.path('file');
  const length = 300 * CHUNK + 17;
  writePieces(file, length, [
    [100, 5 * CHUNK],
    [200 * CHUNK, 100 * CHUNK + 17],
  ]);
  await pushSnapshot({ file, to: `${files.place}/vm` });
  const source = await openStored(`${files.place}/vm`);
  const bytes = readFileSync(file);
  assert.equal(source.byteLength, length);
  await fc.assert(
    fc.asyncProperty(fc.nat(length + CHUNK), fc.nat(20 * CHUNK), async (position, count) => {
      assert.ok(
        Buffer.from(await source.read(position, count)).equals(bytes.subarray(position, position + count)),
        `${count} bytes at ${position} differ`,
      );
    }),
    { numRuns: 40 },
  );
  assert.ok(Buffer.from(await source.read(0, length)).equals(bytes), 'the stored file has other contents');
});

test('what is equal in a snapshot, in its parent at the same place, or in the parent elsewhere is stored once', async () => {
  using files = new TemporaryStore();
  await Store.init(files.place);
  const file = files.path('file');
  const same = Buffer.alloc(CHUNK, 'x').fill('some text', 100, 5000);
  writePieces(
    file,
    2000 * CHUNK,
    [0, 7, 1500].map((chunk): Piece => [chunk * CHUNK, same]),
  );
  const first = await pushSnapshot({ file, to: `${files.place}/vm` });
  assert.deepEqual([first.dataBytes, first.sharedBytes], [3 * CHUNK, 2 * CHUNK]);
  writePieces(file, 2000 * CHUNK, [[1900 * CHUNK, same]]);
  const second = await pushSnapshot({ file, to: `${files.place}/vm` });
  assert.deepEqual([second.dataBytes, second.sharedBytes], [4 * CHUNK, 4 * CHUNK]);
  const alone = await pushSnapshot({ file, to: `${files.place}/vm`, parent: 'none' });
  assert.deepEqual([alone.parent, alone.sharedBytes], [undefined, 3 * CHUNK]);
  const other = await pushSnapshot({ file, to: `${files.place}/other`, parent: `vm@${first.id}` });
  assert.deepEqual([other.parent, other.sharedBytes], [`vm@${first.id}`, 4 * CHUNK]);
});

describe('a sparse file of 1 TiB', () => {
  test('has three levels of nodes, of which those with data are stored, and comes back sparse', async () => {
    using files = new TemporaryStore();
    const store = await Store.init(files.place);
    const file = files.path('file');
    const tebibyte = 2 ** 40;
    const places = [0, 2 ** 39 + 5 * CHUNK, tebibyte - 2 * CHUNK];
    writePieces(
      file,
      tebibyte,
      places.map((place): Piece => [place, 2 * CHUNK]),
    );
    assert.equal(levelsFor(tebibyte), 3);
    const first = await pushSnapshot({ file, to: `${files.place}/vm` });
    assert.equal(first.dataBytes, 6 * CHUNK);
    assert.ok(first.storedBytes < 7 * CHUNK, `${first.storedBytes}`);
    writePieces(file, tebibyte, [[2 ** 39 + 6 * CHUNK, CHUNK]]);
    const second = await pushSnapshot({ file, to: `${files.place}/vm` });
    assert.equal(second.sharedBytes, 5 * CHUNK);
    assert.ok(second.storedBytes < 2 * CHUNK, `${second.storedBytes}`);
    const out = files.path('out');
    await pullSnapshot({ from: `${files.place}/vm`, file: out });
    const { size, blocks } = statSync(out);
    assert.equal(size, tebibyte);
    assert.ok(blocks * 512 < 10 * CHUNK, `${blocks} sectors are allocated`);
    await using before = await open(file);
    await using after = await open(out);
    for (const place of [...places, 2 ** 38]) {
      const [one, two] = await Promise.all(
        [before, after].map((handle) => handle.read({ position: place, buffer: Buffer.alloc(2 * CHUNK) })),
      );
      assert.ok(one?.buffer.equals(two?.buffer as Buffer), `${place}`);
    }
    assert.equal((await verifySnapshot(store, { name: 'vm' })).ok, true);
  });
});
