import assert from 'node:assert/strict';
import { createHash, generateKeyPairSync } from 'node:crypto';
import { closeSync, openSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import { describe, test } from 'node:test';
import { digestChunkBytes } from '../../src/channels/file/digest-chunk-bytes.js';
import { DIGEST_BYTES, type DigestAlgorithm } from '../../src/checksums/chunk-hash.js';
import { MapramError } from '../../src/errors.js';
import { checkManifest } from '../../src/manifest/check-manifest.js';
import { findManifest, withoutManifest } from '../../src/manifest/description-text.js';
import { parseManifest } from '../../src/manifest/manifest.js';
import {
  isSignatureOf,
  rawPublicKey,
  readPublicKey,
  readSigningKey,
  signRoot,
} from '../../src/manifest/signature.js';
import { MemorySource } from '../../src/mapped-ram/byte-source.js';
import { checkImage } from '../../src/mapped-ram/check-image.js';
import { MappedRamImage } from '../../src/mapped-ram/image.js';
import { ImageWriter } from '../../src/mapped-ram/image-writer.js';
import { appendDescriptionKey } from '../../src/stream/vmdescription-text.js';
import { expectedOf, goldenBytes, goldenNames } from '../golden/golden-file.js';
import { writeBuiltinImage } from '../snapshot/builtin-image.js';
import { failsWith } from '../support/fails-with.js';
import { Folder, seal, writeSealedImage } from './sample.js';

const openBytes = (bytes: Uint8Array, offset?: number) =>
  MappedRamImage.open(new MemorySource(bytes), offset === undefined ? {} : { offset });

test('a sealed file is the same stream with one more key in its description', async () => {
  using folder = new Folder();
  const file = folder.file('vm');
  await writeBuiltinImage(file);
  const before = readFileSync(file);
  const guestRegions = [{ idstr: 'builtin.ram', start: 2 ** 30, length: 2 ** 20, blockOffset: 0 }];
  const manifest = await seal(file, { facts: { runState: 'running', guestRegions } });
  const bytes = readFileSync(file);
  const [plain, sealed] = [await openBytes(before), await openBytes(bytes)];
  assert.deepEqual(checkImage(sealed), []);
  assert.deepEqual(sealed.manifest, manifest);
  assert.equal(await withoutManifest(sealed.tail.descriptionText ?? ''), plain.tail.descriptionText);
  const length = before.length - (plain.tail.descriptionText?.length ?? 0) - 4;
  assert.ok(
    bytes.subarray(0, length).equals(before.subarray(0, length)),
    'bytes before the manifest have changed',
  );
  assert.deepEqual(await checkManifest(sealed), {
    manifest,
    problems: [],
    checkedBytes: (await checkManifest(sealed)).checkedBytes,
  });
  assert.deepEqual(sealed.guestMap.regions, guestRegions);
});

test('the root is the SHA-256 of the file without pages and gaps, up to its own place', async () => {
  using folder = new Folder();
  const file = folder.file('vm');
  const { root } = await writeSealedImage(file);
  const bytes = readFileSync(file);
  const image = await openBytes(bytes);
  const hash = createHash('sha256');
  let from = 0;
  for (const { bitmapOffset, bitmap, pagesOffset, usedLength } of image.blocks) {
    hash.update(bytes.subarray(from, bitmapOffset + bitmap.bytes.length));
    from = pagesOffset + usedLength;
  }
  hash.update(bytes.subarray(from, bytes.lastIndexOf(root)));
  assert.equal(hash.digest('hex'), root);
});

test('sealing again replaces the manifest', async () => {
  using folder = new Folder();
  const file = folder.file('vm');
  const first = await writeSealedImage(file);
  const size = readFileSync(file).length;
  const second = await seal(file);
  assert.equal(readFileSync(file).length, size);
  assert.notEqual(second.id, first.id);
  assert.deepEqual((await openBytes(readFileSync(file))).manifest, second);
});

for (const algorithm of Object.keys(DIGEST_BYTES) as DigestAlgorithm[]) {
  test(`of 1 TiB of RAM, with ${algorithm}, it stays below 1 MiB`, async () => {
    using folder = new Folder();
    const file = folder.file('vm');
    const usedLength = 2 ** 40;
    const fd = openSync(file, 'w+', 0o600);
    const writer = await ImageWriter.create({
      fd,
      path: file,
      offset: 0,
      configuration: { machine: 'pc-q35-10.0', capabilities: ['mapped-ram'] },
      blocks: [
        { idstr: 'pc.ram', usedLength },
        { idstr: '0000:00:01.0/vga.vram', usedLength: 2 ** 24 },
      ],
      ramSectionId: 1,
    });
    await writer.writeStart();
    const last = usedLength / 4096 - 1;
    const [ram] = writer.blocks as [(typeof writer.blocks)[number]];
    writeSync(fd, Buffer.alloc(4096, 7), 0, 4096, ram.pagesOffset + last * 4096);
    ram.bitmap.set(last);
    await writer.writeEnd({ switchoverStart: true });
    await writer.finish('{"page_size": 4096, "devices": []}');
    closeSync(fd);
    const manifest = await seal(file, {
      checksums: { algorithm, chunkBytes: digestChunkBytes(usedLength + 2 ** 24, algorithm) },
    });
    assert.ok(JSON.stringify(manifest).length < 2 ** 20, `${JSON.stringify(manifest).length} bytes`);
    await using image = await MappedRamImage.open(file);
    assert.deepEqual((await checkManifest(image)).problems, []);
  });
}

test('a file that is not complete is not sealed', async () => {
  using folder = new Folder();
  const file = folder.file('vm');
  await writeBuiltinImage(file);
  const bytes = readFileSync(file);
  const { tailOffset = 0 } = await openBytes(bytes);
  writeFileSync(file, bytes.subarray(0, tailOffset + 40));
  await assert.rejects(seal(file), failsWith('FORMAT'));
});

for (const name of goldenNames('mapped-ram')) {
  test(`${name}, written by QEMU, can be sealed and stays sound`, async () => {
    using folder = new Folder();
    const file = folder.file('vm');
    writeFileSync(file, goldenBytes(name));
    const { offset } = expectedOf(name);
    const manifest = await seal(file, { offset, facts: { runState: 'paused', qemu: '10.0.2' } });
    const image = await openBytes(readFileSync(file), offset);
    assert.deepEqual(checkImage(image), []);
    assert.deepEqual((await checkManifest(image)).problems, []);
    assert.deepEqual(image.manifest, manifest);
    assert.ok(image.devices.length > 10, `length: ${image.devices.length}`);
  });
}

describe('a manifest that is not right', () => {
  /** Seals an image, changes the description's text, and gives what is said about it. */
  async function problemsAfter(change: (text: string) => string): Promise<string[]> {
    using folder = new Folder();
    const file = folder.file('vm');
    await writeSealedImage(file);
    const bytes = readFileSync(file);
    const { tail } = await openBytes(bytes);
    const text = tail.descriptionText ?? '';
    const changed = Buffer.from(change(text));
    const start = bytes.length - text.length;
    bytes.writeUInt32BE(changed.length, start - 4);
    const image = await openBytes(Buffer.concat([bytes.subarray(0, start), changed]));
    return (await checkManifest(image)).problems;
  }
  const cases: [string, (text: string) => string, RegExp][] = [
    ['two of them', (text) => appendDescriptionKey(text, 'mapram', {}), /two/],
    ['something behind it', (text) => appendDescriptionKey(text, 'other', 1), /follows/],
    ['another key', (text) => text.replace('"mapram": {', '"napram": {'), /napram/],
    ['spaces', (text) => text.replace('"format":1', '"format": 1'), /not written as/],
    ['a newer format', (text) => text.replace('"format":1', '"format":9'), /format 9/],
    ['a member too many', (text) => text.replace('"format":1', '"format":1,"more":1'), /more is not/],
    ['another block', (text) => text.replace('"idstr":"builtin.ram"', '"idstr":"builtin.rum"'), /otherwise/],
    ['another machine', (text) => text.replace('"machine":"mapram-', '"machine":"napram-'), /machine/],
    ['another time', (text) => text.replace(/"createdAt":"2/, '"createdAt":"3'), /changed since the save/],
    [
      'a digest too few',
      (text) => text.replace(/"digests":"[^"]*"/, '"digests":"AAAA"'),
      /3 bytes of checksums/,
    ],
  ];
  for (const [name, change, pattern] of cases) {
    test(name, async () => {
      const problems = await problemsAfter(change);
      assert.match(problems.join('; '), pattern);
    });
  }
});

test('a manifest without the right shape is told by its first fault', () => {
  for (const value of [null, 1, [], {}, { format: 1 }, { format: '1' }]) {
    assert.ok('problem' in parseManifest(value), JSON.stringify(value));
  }
});

test('a manifest is found where whole parsing would find it, and what is wrong with its place', async () => {
  const manifest = { format: 1, mapram: '0.1.0', launch: { arguments: ['-m', '1G', 'a\\b}"'] } };
  const value = JSON.stringify(manifest);
  const description = '{"devices": [{"name": "x"}], "page_size": 4096}';
  const once = appendDescriptionKey(description, 'mapram', manifest);
  for (const [text, problem] of [
    [once, undefined],
    [once.replace('"mapram"', '"\\u006dapram"'), undefined],
    [appendDescriptionKey(once, 'mapram', manifest), /^there are two$/],
    [appendDescriptionKey(once, 'other', manifest), /^something follows it in the vmdescription$/],
    [appendDescriptionKey(description, 'mapraM', { ...manifest, root: 'x' }), /^its key reads "mapraM"$/],
  ] as const) {
    for (const end of ['', '\0', ' \n']) {
      const found = await findManifest(`${text}${end}`);
      assert.ok(found, text);
      if (problem === undefined || !problem.source.includes('key'))
        assert.equal(text.slice(found.start, found.end), value);
      if (problem === undefined) assert.equal(found.problem, undefined);
      else assert.match(found.problem ?? '', problem);
    }
    const bare = await withoutManifest(text);
    assert.equal(bare, problem === undefined ? description : text);
  }
});

test('descriptions without a manifest have none', async () => {
  for (const text of ['', '{', '[]', '{"devices": []}', '{"devices": [{"mapram": 1}]}']) {
    assert.equal(await findManifest(text), undefined);
  }
  assert.equal(await withoutManifest('{"devices": []}'), '{"devices": []}');
  assert.equal(await withoutManifest(appendDescriptionKey(undefined, 'mapram', { root: '' })), '{}');
});

describe('signatures', () => {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  const root = createHash('sha256').update('root').digest('hex');

  test('fit the root that was signed, and no other', () => {
    const signature = signRoot(root, privateKey);
    assert.equal(signature.publicKey, rawPublicKey(publicKey).toString('base64'));
    assert.ok(isSignatureOf(root, signature), 'the signature is not valid');
    assert.ok(
      !isSignatureOf(createHash('sha256').update('other').digest('hex'), signature),
      'the signature is valid for another root',
    );
    const other = rawPublicKey(generateKeyPairSync('ed25519').publicKey).toString('base64');
    assert.ok(
      !isSignatureOf(root, { ...signature, publicKey: other }),
      'the signature is valid by another key',
    );
  });

  test('take Ed25519 keys in PEM files and nothing else', () => {
    using folder = new Folder();
    const pem = (name: string, text: string | Buffer) => {
      writeFileSync(folder.file(name), text);
      return folder.file(name);
    };
    const secret = pem('secret', privateKey.export({ format: 'pem', type: 'pkcs8' }));
    const open = pem('open', publicKey.export({ format: 'pem', type: 'spki' }));
    const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const foreign = pem('rsa', rsa.privateKey.export({ format: 'pem', type: 'pkcs8' }));
    assert.equal(readSigningKey(secret).type, 'private');
    assert.equal(readPublicKey(open).type, 'public');
    const refused = (read: () => unknown, pattern: RegExp) =>
      assert.throws(
        read,
        (error) => error instanceof MapramError && error.code === 'USAGE' && pattern.test(error.message),
      );
    refused(() => readSigningKey(foreign), /key of type rsa/);
    refused(() => readSigningKey(open), /openssl genpkey/);
    refused(() => readPublicKey(secret), /holds a private key/);
    refused(() => readPublicKey(folder.file('none')), /no such file/);
  });
});
