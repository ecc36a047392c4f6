import assert from 'node:assert/strict';
import {
  closeSync,
  constants,
  ftruncateSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { test } from 'node:test';
import { pushSnapshot } from '../../src/snapshot/store/push-snapshot.js';
import { ChunkMap } from '../../src/store/chunk-map.js';
import { LazyFile } from '../../src/store/lazy-file.js';
import { ChunkFetcher } from '../../src/store/pull.js';
import type { StoredFile } from '../../src/store/snapshot-root.js';
import { Store } from '../../src/store/store.js';
import { failsWith } from '../support/fails-with.js';
import { CHUNK, TemporaryStore, writePieces } from './temporary-store.js';

const CHUNKS = 1500;
/** Data at the start, across the border of two nodes, and at the end, which is no whole chunk. */
const LENGTH = CHUNKS * CHUNK + 1234;

async function stored(files: TemporaryStore) {
  await Store.init(files.place);
  const file = files.path('vm');
  writePieces(file, LENGTH, [
    [0, 3 * CHUNK],
    [1023 * CHUNK + 100, 2 * CHUNK],
    [CHUNKS * CHUNK, 1234],
  ]);
  const { name, id } = await pushSnapshot({ file, to: `${files.place}/vm` });
  return { name, id, contents: readFileSync(file) };
}

/** As one process after the other has it: the file and its map stay. */
async function open(files: TemporaryStore, which: { name: string; id: string }) {
  const store = await Store.open(files.place);
  const root = await store.root(which);
  const state = root.files[0] as StoredFile;
  const fetcher = new ChunkFetcher(store, root, { phase: 'fetch', totalBytes: root.dataBytes });
  const fd = openSync(files.path('copy'), constants.O_RDWR | constants.O_CREAT);
  ftruncateSync(fd, state.bytes);
  const map = ChunkMap.open(files.path('copy.chunks'), state.bytes);
  const file = new LazyFile(state, { fetcher, codec: store.codec(), fd, map, persist: (task) => task() });
  return {
    file,
    fetcher,
    async [Symbol.asyncDispose]() {
      file[Symbol.dispose]();
      await fetcher[Symbol.asyncDispose]();
    },
  };
}

test('what is read is fetched, once; zeros are not', async () => {
  using files = new TemporaryStore();
  const { contents, ...which } = await stored(files);
  await using opened = await open(files, which);
  const { file, fetcher } = opened;
  const read = async (offset: number, length: number) => {
    assert.ok(
      (await file.read(offset, length)).equals(contents.subarray(offset, offset + length)),
      `at ${offset}`,
    );
  };
  await read(500 * CHUNK, 4 * CHUNK);
  assert.equal(fetcher.checkedBytes, 0);
  await Promise.all([read(10, 100), read(5000, 10), read(CHUNK - 5, 10)]);
  assert.equal(fetcher.checkedBytes, 2 * CHUNK);
  await read(1022 * CHUNK, 4 * CHUNK);
  await read(LENGTH - 10, 10);
  assert.equal(fetcher.checkedBytes, 5 * CHUNK + 1234);
});

test('what is missing is named in the order of the file, and complete when all of it was brought', async () => {
  using files = new TemporaryStore();
  const { contents, ...which } = await stored(files);
  await using opened = await open(files, which);
  const { file } = opened;
  await file.read(CHUNK, 1);
  const groups: number[][] = [];
  for await (const [first, end] of file.missing(2)) {
    groups.push([first, end]);
    await file.bring(first, end);
  }
  assert.deepEqual(groups, [
    [0, 1],
    [2, 3],
    [1023, 1024],
    [1024, 1026],
    [1500, 1501],
  ]);
  file.complete();
  assert.ok((await file.read(0, LENGTH)).equals(contents), 'the whole file');
});

test('a later process takes what an earlier one has fetched, but for what is not as it was stored', async () => {
  using files = new TemporaryStore();
  const { contents, ...which } = await stored(files);
  {
    await using first = await open(files, which);
    await first.file.read(0, 3 * CHUNK);
  }
  const fd = openSync(files.path('copy'), 'r+');
  // One byte of the second chunk, and something where zeros belong.
  writeSync(fd, Buffer.from([(contents[CHUNK + 7] as number) ^ 1]), 0, 1, CHUNK + 7);
  writeSync(fd, Buffer.from('left behind'), 0, 11, 700 * CHUNK);
  closeSync(fd);
  await using second = await open(files, which);
  assert.ok(
    (await second.file.read(0, 3 * CHUNK)).equals(contents.subarray(0, 3 * CHUNK)),
    'the second reader gets other contents',
  );
  assert.equal(second.fetcher.checkedBytes, CHUNK, 'only the changed chunk is fetched again');
  assert.ok((await second.file.read(700 * CHUNK, 20)).equals(Buffer.alloc(20)), 'zeros are zero again');
});

test('a map of chunks that is cut short or of another file is begun anew', async () => {
  using files = new TemporaryStore();
  const { contents, ...which } = await stored(files);
  for (const damage of ['cut', 'foreign'] as const) {
    {
      await using first = await open(files, which);
      await first.file.read(0, 3 * CHUNK);
    }
    const fd = openSync(files.path('copy.chunks'), 'r+');
    if (damage === 'cut') ftruncateSync(fd, 20);
    else writeSync(fd, Buffer.from('FOREIGN!'), 0, 8, 0);
    closeSync(fd);
    await using second = await open(files, which);
    assert.ok((await second.file.read(0, CHUNK)).equals(contents.subarray(0, CHUNK)), damage);
    assert.equal(second.fetcher.checkedBytes, CHUNK, damage);
  }
});

test('a store that is gone as a whole is out of reach, not damaged', async () => {
  using files = new TemporaryStore();
  const { contents, ...which } = await stored(files);
  await using opened = await open(files, which);
  renameSync(files.path('store'), files.path('elsewhere'));
  await assert.rejects(
    opened.file.read(0, 10),
    failsWith('IO', /no store\.json; is its file system mounted/),
  );
  renameSync(files.path('elsewhere'), files.path('store'));
  assert.ok((await opened.file.read(0, 10)).equals(contents.subarray(0, 10)), 'read once it is back');
});

test('a chunk whose pack is gone or changed is an error that names the pack, and no zeros', async () => {
  using files = new TemporaryStore();
  const { contents: _, ...which } = await stored(files);
  await using opened = await open(files, which);
  const packs = files.path('store/packs');
  for (const pack of readdirSync(packs)) rmSync(`${packs}/${pack}`, { recursive: true });
  await assert.rejects(opened.file.read(0, 10), failsWith('FORMAT', /pack [0-9a-f]{64} is missing/));
});
