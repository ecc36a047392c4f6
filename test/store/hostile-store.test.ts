/** Whoever keeps a store may change anything in it: readers find out, say what it is, and keep within their bounds. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import {
  copyFileSync,
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { generateX25519Identity, identityToRecipient } from 'age-encryption';
import { listSnapshots } from '../../src/snapshot/store/list-snapshots.js';
import { pullSnapshot } from '../../src/snapshot/store/pull-snapshot.js';
import { pushSnapshot } from '../../src/snapshot/store/push-snapshot.js';
import { FrameCodec } from '../../src/store/frame-codec.js';
import { PageNode } from '../../src/store/page-node.js';
import { encodeRoot, type SnapshotRoot } from '../../src/store/snapshot-root.js';
import { Store } from '../../src/store/store.js';
import { verifySnapshot } from '../../src/store/verify-snapshot.js';
import { failsWith } from '../support/fails-with.js';
import { CHUNK, TemporaryStore, writePieces } from './temporary-store.js';

const identity = await generateX25519Identity();
const encryption = { recipients: [await identityToRecipient(identity)] };
const unlock = { identities: [identity] };

/** A store with one snapshot of 40 random chunks, all in one pack, whose frames are equally long. */
async function storeWithSnapshot(encrypted: boolean) {
  const files = new TemporaryStore();
  await Store.init(files.place, encrypted ? encryption : undefined);
  writePieces(files.path('vm'), 3000 * CHUNK, [[0, 40 * CHUNK]]);
  const pushed = await pushSnapshot({ file: files.path('vm'), to: `${files.place}/vm`, unlock });
  const [pack] = readdirSync(files.path('store/packs'))
    .map((name) => files.path(`store/packs/${name}`))
    .filter((name) => readFileSync(name).length > 30 * CHUNK) as [string];
  const root = files.path(`store/roots/vm/${pushed.id}`);
  const pull = () => pullSnapshot({ from: `${files.place}/vm`, file: files.path('out'), unlock });
  const verify = async () =>
    (await verifySnapshot(await Store.open(files.place, unlock), { name: 'vm' })).problems.join('; ');
  return { files, pushed, pack, root, pull, verify, [Symbol.dispose]: () => files[Symbol.dispose]() };
}

function changed(file: string, change: (bytes: Buffer) => void): void {
  const bytes = readFileSync(file);
  change(bytes);
  writeFileSync(file, bytes);
}

for (const encrypted of [false, true]) {
  const bytesOfFrame = CHUNK + 5 + (encrypted ? 28 : 0);
  describe(`in ${encrypted ? 'an encrypted' : 'a plain'} store`, () => {
    test('a changed byte of a chunk is found, and named by its place in the file', async () => {
      using store = await storeWithSnapshot(encrypted);
      changed(store.pack, (bytes) =>
        bytes.writeUInt8((bytes[32 + 3 * bytesOfFrame + 100] as number) ^ 1, 32 + 3 * bytesOfFrame + 100),
      );
      await assert.rejects(
        store.pull(),
        failsWith('FORMAT', /the chunk at offset 196608 of vm, in pack [0-9a-f]{64}, is damaged/),
      );
      assert.match(await store.verify(), /offset 196608 of vm/);
    });

    test('two chunks that have changed places are found', async () => {
      using store = await storeWithSnapshot(encrypted);
      changed(store.pack, (bytes) => {
        const frame = (index: number) =>
          bytes.subarray(32 + index * bytesOfFrame, 32 + (index + 1) * bytesOfFrame);
        const first = Buffer.from(frame(5));
        frame(5).set(frame(6));
        frame(6).set(first);
      });
      await assert.rejects(
        store.pull(),
        failsWith('FORMAT', encrypted ? /offset 327680 .* another one/ : /offset 327680 .* name says/),
      );
    });

    test('a pack that was cut short, or is gone, is found', async () => {
      using store = await storeWithSnapshot(encrypted);
      truncateSync(store.pack, 20 * CHUNK);
      await assert.rejects(store.pull(), failsWith('FORMAT', /cut short/));
      assert.match(await store.verify(), /pack [0-9a-f]{64} has 1310720 bytes, not/);
      rmSync(store.pack);
      await assert.rejects(store.pull(), failsWith('FORMAT', /pack [0-9a-f]{64} is missing/));
      assert.match(await store.verify(), /pack [0-9a-f]{64} is missing/);
    });

    test('a root with any byte changed, or cut short, is found', async () => {
      using store = await storeWithSnapshot(encrypted);
      const sound = readFileSync(store.root);
      for (let at = 0; at < sound.length; at += 7) {
        const bytes = Buffer.from(sound);
        bytes[at] = (bytes[at] as number) ^ 4;
        writeFileSync(store.root, bytes);
        await assert.rejects(store.pull(), failsWith('FORMAT', /^reading /));
      }
      for (const length of [0, 10, sound.length - 1]) {
        writeFileSync(store.root, sound.subarray(0, length));
        await assert.rejects(store.pull(), failsWith('FORMAT', /^reading /));
      }
    });

    test('a root in the place of another, and one of another store, are named', async () => {
      using store = await storeWithSnapshot(encrypted);
      using other = await storeWithSnapshot(encrypted);
      mkdirSync(store.files.path('store/roots/web'));
      copyFileSync(store.root, store.files.path(`store/roots/web/${store.pushed.id}`));
      const web = { from: `${store.files.place}/web`, file: store.files.path('out'), unlock };
      await assert.rejects(
        pullSnapshot(web),
        failsWith('FORMAT', /is the root of vm@\S+, which was put in this place/),
      );
      const replayed = path.join(path.dirname(store.root), path.basename(other.root));
      renameSync(other.root, replayed);
      await assert.rejects(store.pull(), failsWith('FORMAT', /it belongs to another store/));
      const { snapshots, problems } = await listSnapshots({ place: store.files.place, unlock });
      assert.deepEqual([snapshots.length, problems.length], [1, 2]);
    });
  });
}

describe('an encrypted store', () => {
  test('without its key shows names and sizes, and nothing else', async () => {
    using store = await storeWithSnapshot(true);
    const { encrypted, snapshots } = await listSnapshots({ place: store.files.place });
    assert.deepEqual([encrypted, snapshots[0]?.name, snapshots[0]?.files], [true, 'vm', undefined]);
    const pull = pullSnapshot({ from: `${store.files.place}/vm`, file: store.files.path('out') });
    await assert.rejects(pull, failsWith('KEY', /it is encrypted; name the file.*MAPRAM_STORE_IDENTITY/));
  });

  test('refuses another key and another passphrase', async () => {
    using store = await storeWithSnapshot(true);
    const others = [{ identities: [await generateX25519Identity()] }, { passphrase: 'guess' }];
    for (const other of others)
      await assert.rejects(Store.open(store.files.place, other), failsWith('KEY', /the key is a wrong one/));
    await assert.rejects(
      Store.open(store.files.place, { identities: ['AGE-SECRET-KEY-1'] }),
      failsWith('KEY', /not one of age/),
    );
  });

  test('opens with a passphrase', async () => {
    using files = new TemporaryStore();
    await Store.init(files.place, { passphrase: 'correct horse' });
    assert.equal((await Store.open(files.place, { passphrase: 'correct horse' })).isUnlocked, true);
  });

  test('with the store.json of another one is found, whoever holds both keys', async () => {
    using store = await storeWithSnapshot(true);
    using other = await storeWithSnapshot(true);
    const [own, foreign] = [store, other].map(({ files }) =>
      JSON.parse(readFileSync(files.path('store/store.json'), 'utf8')),
    );
    const put = (config: object) =>
      writeFileSync(store.files.path('store/store.json'), JSON.stringify(config));
    put({ ...own, encryption: foreign.encryption });
    await assert.rejects(store.pull(), failsWith('KEY', /not that of this store/));
    put(foreign);
    await assert.rejects(store.pull(), failsWith('FORMAT', /it belongs to another store/));
    const { encryption: _, ...plain } = own;
    put(plain);
    await assert.rejects(store.pull(), failsWith('FORMAT', /it was changed/));
  });

  test('tells nobody by its names what its chunks hold', async () => {
    using store = await storeWithSnapshot(true);
    const chunk = readFileSync(store.files.path('vm')).subarray(0, CHUNK);
    const name = createHash('sha256').update(chunk).digest();
    for (const folder of ['packs', 'roots/vm'])
      for (const file of readdirSync(store.files.path(`store/${folder}`))) {
        const bytes = readFileSync(store.files.path(`store/${folder}/${file}`));
        assert.ok(
          !bytes.includes(name) && !bytes.includes(chunk.subarray(0, 64)),
          'an encrypted store holds a name or contents',
        );
      }
  });
});

describe('whoever can make whole roots and packs', () => {
  /** Replaces the snapshot by one of these files. */
  async function forged(
    store: Awaited<ReturnType<typeof storeWithSnapshot>>,
    change: (root: SnapshotRoot) => SnapshotRoot,
  ) {
    const opened = await Store.open(store.files.place);
    const root = await opened.root({ name: 'vm' });
    writeFileSync(store.root, encodeRoot(change(root), new FrameCodec(), undefined));
  }
  const firstFile = (root: SnapshotRoot) => root.files[0] as SnapshotRoot['files'][number];

  test('cannot make a file be written elsewhere by its name', async () => {
    for (const name of ['../../evil', '..', '/etc/evil', 'a/b', '', '.hidden', 'a\\b\0']) {
      using store = await storeWithSnapshot(false);
      await forged(store, (root) => ({
        ...root,
        files: [firstFile(root), { ...firstFile(root), role: 'disk', name }],
      }));
      const from = `${store.files.place}/vm`;
      const pull = pullSnapshot({ from, file: store.files.path('out'), disks: store.files.path('disks') });
      await assert.rejects(pull, failsWith('FORMAT', /files\.1\.name is not as it must be/));
    }
  });

  test('cannot make nodes lead in circles, past the end of the file, or out of a pack', async () => {
    using store = await storeWithSnapshot(false);
    const sound = readFileSync(store.root);
    const { top } = firstFile(await (await Store.open(store.files.place)).root({ name: 'vm' }));
    const [[, leaf] = [0, undefined]] = [...top.entries()];
    assert.ok(leaf, 'there is no leaf');
    // A node of the wrong level is one that leads to itself, or to one above.
    await forged(store, (root) => {
      const node = new PageNode(3);
      node.set(0, leaf);
      return { ...root, files: [{ ...firstFile(root), bytes: 2 ** 40, levels: 3, top: node }] };
    });
    await assert.rejects(
      store.pull(),
      failsWith('FORMAT', /a node of level 2 in pack \S+ is damaged: it is of level 1, not 2/),
    );
    writeFileSync(store.root, sound);
    await forged(store, (root) => {
      const node = new PageNode(2);
      node.set(1, leaf);
      return { ...root, files: [{ ...firstFile(root), bytes: 1025 * CHUNK, top: node }] };
    });
    await assert.rejects(store.pull(), failsWith('FORMAT', /a chunk at offset 69664768, behind its end/));
    writeFileSync(store.root, sound);
    await forged(store, (root) => {
      const node = new PageNode(2);
      node.set(0, { ...leaf, offset: 2 ** 26 });
      return { ...root, files: [{ ...firstFile(root), top: node }] };
    });
    await assert.rejects(store.pull(), failsWith('FORMAT', /its entry 0 leads nowhere/));
    writeFileSync(store.root, sound);
    await forged(store, (root) => ({
      ...root,
      files: [{ ...firstFile(root), levels: 3, top: new PageNode(3) }],
    }));
    await assert.rejects(store.pull(), failsWith('FORMAT', /has 3 levels, not 2/));
  });

  test('cannot make a small frame fill memory', () => {
    const codec = new FrameCodec();
    const large = Buffer.alloc(64 << 20);
    const name = codec.name('chunk', large);
    const bomb = codec.encode(name, large);
    assert.ok(bomb.length < 10_000, `length: ${bomb.length}`);
    assert.match(String(codec.decode('chunk', name, bomb, CHUNK)), /claims to hold 67108864 bytes/);
    bomb.writeUInt32LE(CHUNK, 1);
    assert.match(String(codec.decode('chunk', name, bomb, CHUNK)), /cannot be decompressed/);
    bomb.writeUInt32LE(0xffff_ffff, 1);
    assert.match(String(codec.decode('chunk', name, bomb, CHUNK)), /claims to hold 4294967295 bytes/);
    assert.match(
      String(codec.decode('chunk', name, Buffer.from([9, 1, 0, 0, 0, 0]), CHUNK)),
      /unknown way \(9\)/,
    );
    assert.match(String(codec.decode('chunk', name, Buffer.alloc(3), CHUNK)), /too short/);
  });

  test('cannot make a list or a prune follow names that lead elsewhere', async () => {
    using store = await storeWithSnapshot(false);
    for (const name of ['..x', '.hidden', 'bad name', '-x']) {
      cpSync(path.dirname(store.root), store.files.path(`store/roots/${name}`), { recursive: true });
    }
    writeFileSync(store.files.path('store/roots/vm/not-an-id'), 'x');
    const { snapshots } = await listSnapshots({ place: store.files.place });
    assert.deepEqual(
      snapshots.map(({ name }) => name),
      ['vm'],
    );
  });

  test('a store of a newer format is not read', async () => {
    using store = await storeWithSnapshot(false);
    writeFileSync(store.files.path('store/store.json'), '{"format":2}');
    await assert.rejects(store.pull(), failsWith('UNSUPPORTED', /format 2, this version of mapram reads 1/));
    writeFileSync(store.files.path('store/store.json'), '{"format":1}');
    await assert.rejects(store.pull(), failsWith('FORMAT', /not the description of a store/));
    writeFileSync(store.files.path('store/store.json'), Buffer.alloc(2 << 20, ' '));
    await assert.rejects(store.pull(), failsWith('FORMAT', /2097152 bytes, more than/));
  });
});
