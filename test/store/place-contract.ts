/** What every kind of place must do, whoever serves it. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import { pullSnapshot } from '../../src/snapshot/store/pull-snapshot.js';
import { pushSnapshot } from '../../src/snapshot/store/push-snapshot.js';
import { packKey, rootKey } from '../../src/store/format.js';
import { openPlace } from '../../src/store/open-place.js';
import { prune, removeSnapshot } from '../../src/store/prune.js';
import { Store } from '../../src/store/store.js';
import { verifySnapshot } from '../../src/store/verify-snapshot.js';
import { failsWith } from '../support/fails-with.js';
import { CHUNK, TemporaryStore, writePieces } from './temporary-store.js';

/** @param newAddress a place of this kind with nothing in it */
export function placeContract(newAddress: () => string): void {
  test('objects come back as they were put, whole and in part', async () => {
    const place = await openPlace(newAddress());
    const bytes = randomBytes(300_000);
    const key = packKey(createHash('sha256').update(bytes).digest('hex'));
    assert.equal(await place.size(key), undefined);
    assert.equal(await place.get(key, { range: { offset: 0, length: 1 } }), undefined);
    await place.put(key, bytes);
    await place.put(key, bytes);
    assert.equal(await place.size(key), bytes.length);
    assert.deepEqual(
      await place.get(key, { range: { offset: 70_000, length: 5 } }),
      bytes.subarray(70_000, 70_005),
    );
    assert.deepEqual(await place.get(key, { maximum: bytes.length }), bytes);
    await assert.rejects(place.get(key, { maximum: 100 }), failsWith('FORMAT', /more than|longer than/));
    await assert.rejects(
      place.get(key, { range: { offset: 299_999, length: 2 } }),
      failsWith('FORMAT', /cut short/),
    );
  });

  test('a root is created once, listed, and removed', async () => {
    const place = await openPlace(newAddress());
    const keys = ['20260101T000000000Z-00000001', '20260101T000000000Z-00000002'].map((id) =>
      rootKey('a.b-c', id),
    );
    const other = rootKey('a', '20260101T000000000Z-00000003');
    assert.deepEqual(await place.list('roots/'), []);
    for (const key of [...keys, other]) assert.equal(await place.create(key, Buffer.from(key), []), true);
    assert.equal(await place.create(other, Buffer.from('second'), []), false);
    assert.equal(String(await place.get(other, { maximum: 1000 })), other);
    const listed = async (prefix: string) => (await place.list(prefix)).map(({ key }) => key).sort();
    assert.deepEqual(await listed('roots/'), [other, ...keys].sort());
    assert.deepEqual(await listed('roots/a.b-c/'), keys);
    await place.remove(other);
    await place.remove(other);
    assert.deepEqual(await listed('roots/'), keys);
    assert.equal(await place.size(other), undefined);
  });

  test('snapshots go there and come back, each at the cost of what changed; a second init is refused', async () => {
    using files = new TemporaryStore();
    const address = newAddress();
    const identity = await generateX25519Identity();
    const store = await Store.init(address, { recipients: [await identityToRecipient(identity)] });
    await assert.rejects(Store.init(address), failsWith('EXISTS', /there is a store already/));
    const [file, disk] = [files.path('vm'), files.path('disk.qcow2')];
    writePieces(file, 200 << 20, [
      [0, 40 * CHUNK],
      [100 << 20, 300 * CHUNK],
    ]);
    writePieces(disk, 100_001, [[5000, 90_000]]);
    const unlock = { identities: [identity] };
    const first = await pushSnapshot({ file, disks: [disk], to: `${address}/vm`, unlock });
    writePieces(file, 200 << 20, [[101 << 20, 10 * CHUNK]]);
    const second = await pushSnapshot({ file, disks: [disk], to: `${address}/vm`, unlock });
    assert.ok(first.storedBytes > 340 * CHUNK, `stored bytes: ${first.storedBytes}`);
    assert.ok(second.storedBytes < 20 * CHUNK, `${second.storedBytes}`);
    const disks = files.path('disks');
    await pullSnapshot({ from: `${address}/vm`, file: files.path('out'), disks, unlock });
    assert.deepEqual(readFileSync(files.path('out')), readFileSync(file));
    assert.deepEqual(readFileSync(files.path('disks/disk.qcow2')), readFileSync(disk));
    await removeSnapshot(store, first);
    await prune(store);
    assert.deepEqual(await store.snapshots(), [{ name: 'vm', id: second.id }]);
    const { ok, problems } = await verifySnapshot(store, { name: 'vm' });
    assert.deepEqual([ok, problems], [true, []]);
  });
}
