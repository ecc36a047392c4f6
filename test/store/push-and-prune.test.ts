/** Pushes and prunes at the same time, and those that are broken off: nothing that a snapshot needs is lost, and nothing is uploaded twice. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { pushSnapshot } from '../../src/snapshot/store/push-snapshot.js';
import type { Place } from '../../src/store/place.js';
import { prune, removeSnapshot } from '../../src/store/prune.js';
import { PushClaim } from '../../src/store/push-claim.js';
import { Store } from '../../src/store/store.js';
import { verifySnapshot } from '../../src/store/verify-snapshot.js';
import { failsWith } from '../support/fails-with.js';
import { CHUNK, TemporaryStore, writePieces } from './temporary-store.js';

async function assertAllSound(store: Store): Promise<void> {
  for (const one of await store.snapshots()) {
    const { problems } = await verifySnapshot(store, one);
    assert.deepEqual(problems, []);
  }
}

const packsOf = (files: TemporaryStore) => readdirSync(files.path('store/packs'));

/** A push that is broken off after some packs. */
async function brokenOff(files: TemporaryStore, file: string): Promise<void> {
  const controller = new AbortController();
  const pushing = pushSnapshot({
    file,
    to: `${files.place}/vm`,
    signal: controller.signal,
    onProgress({ bytes }) {
      if (bytes > 40 << 20) controller.abort();
    },
  });
  await assert.rejects(pushing);
}

test('two pushes of one name at once both arrive', async () => {
  using files = new TemporaryStore();
  const store = await Store.init(files.place);
  const names = ['one', 'two'];
  for (const name of names) writePieces(files.path(name), 200 * CHUNK, [[0, 50 * CHUNK]]);
  await Promise.all(names.map((name) => pushSnapshot({ file: files.path(name), to: `${files.place}/vm` })));
  assert.equal((await store.snapshots()).length, 2);
  await assertAllSound(store);
});

describe('a push that was broken off', () => {
  test('shows nothing, keeps its packs from a prune, and does not upload them again', async () => {
    using files = new TemporaryStore();
    const store = await Store.init(files.place);
    const file = files.path('vm');
    writePieces(file, 60 << 20, [[0, 60 << 20]]);
    await brokenOff(files, file);
    assert.deepEqual(await store.snapshots(), []);
    const early = packsOf(files);
    assert.ok(early.length > 0, `length: ${early.length}`);
    assert.equal((await prune(store)).removedPacks, 0);
    const { reusedBytes, storedBytes } = await pushSnapshot({ file, to: `${files.place}/vm` });
    assert.ok(reusedBytes >= 15 << 20, `${reusedBytes}`);
    assert.ok(storedBytes + reusedBytes < 61 << 20, `${storedBytes} bytes stored, ${reusedBytes} reused`);
    await assertAllSound(store);
  });

  test('is forgotten after a week, with what it has uploaded', async () => {
    using files = new TemporaryStore();
    const store = await Store.init(files.place);
    const file = files.path('vm');
    writePieces(file, 60 << 20, [[0, 60 << 20]]);
    await brokenOff(files, file);
    const [claim = ''] = readdirSync(files.path('store/pushes'));
    const text = readFileSync(files.path(`store/pushes/${claim}`), 'utf8');
    const old = { ...JSON.parse(text), createdAt: new Date(Date.now() - 8 * 86_400_000).toISOString() };
    writeFileSync(files.path(`store/pushes/${claim}`), JSON.stringify(old));
    assert.equal((await prune(store, { dryRun: true })).removedPacks, packsOf(files).length);
    assert.ok((await prune(store)).freedBytes > 15 << 20, 'too little was freed');
    assert.deepEqual([packsOf(files), readdirSync(files.path('store/pushes'))], [[], []]);
  });
});

describe('a push beside a prune', () => {
  test('keeps the packs of its parent, although the parent goes', async () => {
    using files = new TemporaryStore();
    const store = await Store.init(files.place);
    const file = files.path('vm');
    writePieces(file, 200 * CHUNK, [[0, 50 * CHUNK]]);
    const { id } = await pushSnapshot({ file, to: `${files.place}/vm` });
    const parent = await store.root({ name: 'vm', id });
    const claim = await PushClaim.make(store.place, 'vm', parent, ['x']);
    await removeSnapshot(store, { name: 'vm', id });
    const before = packsOf(files);
    assert.equal((await prune(store)).removedPacks, 0);
    assert.deepEqual(packsOf(files), before);
    await claim.release();
    assert.equal((await prune(store)).removedPacks, before.length);
  });

  test('fails at once when its parent has just gone', async () => {
    using files = new TemporaryStore();
    const store = await Store.init(files.place);
    const file = files.path('vm');
    writePieces(file, 20 * CHUNK, [[0, 5 * CHUNK]]);
    const { id } = await pushSnapshot({ file, to: `${files.place}/vm` });
    const parent = await store.root({ name: 'vm', id });
    await removeSnapshot(store, { name: 'vm', id });
    await assert.rejects(
      PushClaim.make(store.place, 'vm', parent, ['x']),
      failsWith('BUSY', /was removed meanwhile; push again/),
    );
    assert.deepEqual(readdirSync(files.path('store/pushes')), []);
  });

  test('makes packs that no earlier push has made while a prune is under way', async () => {
    using files = new TemporaryStore();
    const store = await Store.init(files.place);
    const [first, again] = [
      await PushClaim.make(store.place, 'vm', undefined, ['x']),
      await PushClaim.make(store.place, 'vm', undefined, ['x']),
    ];
    assert.equal(first.push, again.push);
    writeFileSync(files.path('store/pushes/prune.0123456789abcdef'), '{}');
    const beside = await PushClaim.make(store.place, 'vm', undefined, ['x']);
    assert.notEqual(beside.push, first.push);
    for (const claim of [first, again, beside]) await claim.release();
  });

  test('whose claim is gone does not publish', async () => {
    using files = new TemporaryStore();
    const store = await Store.init(files.place);
    const file = files.path('vm');
    writePieces(file, 60 << 20, [[0, 60 << 20]]);
    let removed = false;
    const pushing = pushSnapshot({
      file,
      to: `${files.place}/vm`,
      onProgress() {
        if (!removed) rmSync(files.path('store/pushes'), { recursive: true });
        removed = true;
      },
    });
    await assert.rejects(pushing, failsWith('BUSY', /taken this push for one that was given up/));
    assert.deepEqual(await store.snapshots(), []);
  });

  test('again and again loses nothing', async () => {
    using files = new TemporaryStore();
    const store = await Store.init(files.place);
    const file = files.path('vm');
    let pushing = true;
    const pushes = async () => {
      for (let round = 0; round < 6; round++) {
        writePieces(file, 400 * CHUNK, [[round * 10 * CHUNK, 15 * CHUNK]]);
        await pushSnapshot({ file, to: `${files.place}/vm` }).catch(failsWith('BUSY', /removed meanwhile/));
      }
      pushing = false;
    };
    const prunes = async () => {
      while (pushing) await prune(store, { keepLast: 1 });
    };
    await Promise.all([pushes(), prunes(), prunes()]);
    await prune(store, { keepLast: 1 });
    assert.equal((await store.snapshots()).length, 1);
    await assertAllSound(store);
  });
});

test('a prune that is killed at any point leaves every snapshot sound', async () => {
  using files = new TemporaryStore();
  const store = await Store.init(files.place);
  const file = files.path('vm');
  for (let round = 0; round < 5; round++) {
    writePieces(file, 100 * CHUNK, [[round * 10 * CHUNK, 15 * CHUNK]]);
    await pushSnapshot({ file, to: `${files.place}/vm` });
  }
  for (let after = 1; ; after++) {
    let calls = 0;
    const place = new Proxy(store.place, {
      get(target, property: keyof Place) {
        const value = target[property];
        if (property !== 'remove') return typeof value === 'function' ? value.bind(target) : value;
        return (key: string) => {
          calls += 1;
          if (calls >= after) throw new Error('killed');
          return target.remove(key);
        };
      },
    });
    const killed = await prune(Object.create(store, { place: { value: place } }), { keepLast: 2 }).then(
      () => false,
      () => true,
    );
    await assertAllSound(store);
    if (!killed) break;
  }
  assert.equal((await store.snapshots()).length, 2);
  await prune(store, {});
  assert.equal((await prune(store, {})).removedPacks, 0);
});

test('a file that is written to while it is pushed is not published', async () => {
  using files = new TemporaryStore();
  const store = await Store.init(files.place);
  const file = files.path('vm');
  writePieces(file, 200 * CHUNK, [[0, 100 * CHUNK]]);
  let written = false;
  const pushing = pushSnapshot({
    file,
    to: `${files.place}/vm`,
    onProgress() {
      if (!written) writePieces(file, 200 * CHUNK, [[0, 1]]);
      written = true;
    },
  });
  await assert.rejects(pushing, failsWith('BUSY', /was written to meanwhile/));
  assert.deepEqual(await store.snapshots(), []);
});

test('what cannot be pushed or pulled is said before anything is written', async () => {
  using files = new TemporaryStore();
  await Store.init(files.place);
  const file = files.path('vm');
  writePieces(file, CHUNK, [[0, 100]]);
  writePieces(files.path('bad name'), CHUNK, []);
  const to = `${files.place}/vm`;
  await assert.rejects(
    pushSnapshot({ file: files.path('absent'), to }),
    failsWith('IO', /^opening .*absent: no such file/),
  );
  await assert.rejects(
    pushSnapshot({ file: files.folder, to }),
    failsWith('UNSUPPORTED', /it is no regular file/),
  );
  await assert.rejects(
    pushSnapshot({ file, disks: [files.path('bad name')], to }),
    failsWith('USAGE', /its name has other characters/),
  );
  await assert.rejects(
    pushSnapshot({ file, disks: [file], to }),
    failsWith('USAGE', /two files are called vm/),
  );
  await assert.rejects(
    pushSnapshot({ file, to: `${files.place}/.vm` }),
    failsWith('USAGE', /a name has up to 96/),
  );
  await assert.rejects(pushSnapshot({ file, to: 'vm' }), failsWith('USAGE', /called PLACE\/NAME/));
  await assert.rejects(
    pushSnapshot({ file, to: `${files.folder}/vm` }),
    failsWith('USAGE', /called PLACE\/NAME/),
  );
  await assert.rejects(
    pushSnapshot({ file, to: `dir:${files.folder}/none/vm` }),
    failsWith('IO', /there is no store; `mapram store init`/),
  );
  await assert.rejects(pushSnapshot({ file, to, parent: 'none@x' }), failsWith('USAGE', /is no ID/));
  await assert.rejects(
    pushSnapshot({ file, to, parent: 'other' }),
    failsWith('IO', /there is no such snapshot/),
  );
});
