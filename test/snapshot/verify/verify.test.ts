import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import {
  chmodSync,
  closeSync,
  openSync,
  readFileSync,
  readSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { describe, test } from 'node:test';
import { MapramError } from '../../../src/errors.js';
import { BuiltinGuest } from '../../../src/guest/builtin/builtin-guest.js';
import type { ManifestChecksums } from '../../../src/manifest/manifest.js';
import { MappedRamImage } from '../../../src/mapped-ram/image.js';
import { restore } from '../../../src/snapshot/restore/restore.js';
import { type SaveOptions, save } from '../../../src/snapshot/save/save.js';
import { type VerifyProblem, verify } from '../../../src/snapshot/verify/verify.js';
import { encodeLibvirtHeader, LIBVIRT_HEADER_BYTES } from '../../../src/stream/libvirt-header.js';
import { expectedOf, goldenBytes, goldenNames } from '../../golden/golden-file.js';
import { Folder, placesOf, seal, writeSealedImage } from '../../manifest/sample.js';
import { failsWith } from '../../support/fails-with.js';
import { flipBits } from '../../trust/bit-flips.js';
import { writeBuiltinImage } from '../builtin-image.js';

function flip(file: string, offset: number, bit = 0): void {
  const fd = openSync(file, 'r+');
  const byte = Buffer.alloc(1);
  readSync(fd, byte, 0, 1, offset);
  byte[0] = (byte[0] ?? 0) ^ (1 << bit);
  writeSync(fd, byte, 0, 1, offset);
  closeSync(fd);
}

async function saveBuiltin(file: string, options: Partial<SaveOptions> = {}): ReturnType<typeof save> {
  await using vm = await BuiltinGuest.start({ size: 8 << 20, begin: 'running' });
  return await save({ vm, file, channels: 2, ...options });
}

function writeKeys(folder: Folder, name = 'key'): { secret: string; open: string } {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  const [secret, open] = [folder.file(`${name}.pem`), folder.file(`${name}.pub`)];
  writeFileSync(secret, privateKey.export({ format: 'pem', type: 'pkcs8' }));
  writeFileSync(open, publicKey.export({ format: 'pem', type: 'spki' }));
  return { secret, open };
}

for (const live of [false, true]) {
  test(`a file that was just saved is sound, ${live ? 'live' : 'stopped'}`, async () => {
    using folder = new Folder();
    const file = folder.file('vm');
    const saved = await saveBuiltin(file, { live });
    assert.equal(saved.checksums, 'xxh64');
    assert.equal(saved.fileBytes, statSync(file).size);
    const result = await verify({ file });
    assert.deepEqual(result.problems, []);
    assert.deepEqual(result.notes, []);
    assert.ok(result.ok, JSON.stringify(result.problems));
    assert.equal(result.id, saved.id);
    assert.equal(result.signature, 'none');
    await using image = await MappedRamImage.open(file);
    const pages = image.blocks.reduce((sum, { bitmap }) => sum + bitmap.count(), 0);
    assert.ok(result.checkedBytes > pages * 4096, `checked bytes: ${result.checkedBytes}`);
  });
}

test('a manifest in which a number begins with a zero is damaged, as any other that is no JSON', async () => {
  using folder = new Folder();
  const file = folder.file('vm');
  await writeSealedImage(file);
  const key = '"bitmapOffset":';
  const digit = readFileSync(file).lastIndexOf(`${key}1`) + key.length;
  assert.ok(digit > key.length, `digit: ${digit}`);
  flip(file, digit);
  const { problems } = await verify({ file });
  assert.deepEqual(problems, [{ kind: 'manifest', where: 'manifest', message: 'it is not JSON' }]);
});

test('every damaged chunk is named by block and guest address', async () => {
  using folder = new Folder();
  const file = folder.file('vm');
  await saveBuiltin(file);
  const pages: number[] = [];
  {
    await using image = await MappedRamImage.open(file);
    const ram = image.block('builtin.ram');
    assert.ok(ram, 'there is no ram');
    for (const chunk of [1, 2]) {
      const page = ram.bitmap.nextSet(chunk * 256);
      assert.ok(page < (chunk + 1) * 256, 'the chunk holds pages');
      flip(file, ram.pagesOffset + page * 4096 + 17, 3);
      pages.push(ram.pagesOffset + chunk * 2 ** 20);
    }
  }
  const result = await verify({ file });
  const place = (chunk: number, offset: number | undefined): Partial<VerifyProblem> => ({
    kind: 'contents',
    where: 'builtin.ram',
    offset: offset ?? 0,
    guestAddress: (chunk + 1) * 2 ** 20,
    length: 2 ** 20,
  });
  assert.deepEqual(
    result.problems.map(({ message: _, ...problem }) => problem),
    [place(1, pages[0]), place(2, pages[1])],
  );
  assert.match(
    result.problems[0]?.message ?? '',
    /^its memory from 0x100000 to 0x200000 \(guest address 0x200000\) differs/,
  );
  const structureOnly = await verify({ file, contents: false });
  assert.ok(structureOnly.ok, 'only the structure was asked for');
});

test('flips in slots that nobody reads, and in gaps, are no damage', async () => {
  using folder = new Folder();
  const file = folder.file('vm');
  await writeSealedImage(file, { stale: [200, 201] });
  await using image = await MappedRamImage.open(file);
  const placeOf = placesOf(image);
  const { pagesOffset = 0 } = image.blocks[0] ?? {};
  for (const offset of [pagesOffset - 1, pagesOffset + 200 * 4096]) {
    assert.ok(['gap', 'stale slot'].includes(placeOf(offset)), placeOf(offset));
    flip(file, offset);
    assert.ok((await verify({ file })).ok, 'the file was found damaged');
  }
});

test('120 random bit flips: found where they matter, only there', async () => {
  using folder = new Folder();
  const file = folder.file('vm');
  await writeSealedImage(file, { stale: [130, 150, 200, 201, 202] });
  const counts = await flipBits(file, 120, 20_260_101);
  assert.ok(counts.covered.found >= 40 && counts.page.found >= 40, JSON.stringify(counts));
});

test('a file cut short, at any place, is not sound', async () => {
  using folder = new Folder();
  const file = folder.file('vm');
  await writeSealedImage(file);
  const whole = readFileSync(file);
  for (const share of [0.001, 0.2, 0.5, 0.9, 0.99, 1]) {
    writeFileSync(file, whole);
    truncateSync(file, Math.floor(whole.length * share) - 1);
    const found = await verify({ file }).then(
      ({ ok, problems }) => !ok && problems.length > 0,
      (error: unknown) => error instanceof MapramError && error.code === 'FORMAT',
    );
    assert.ok(found, `cut at ${share}`);
  }
});

test('bytes behind the end are told', async () => {
  using folder = new Folder();
  const file = folder.file('vm');
  await writeSealedImage(file);
  writeFileSync(file, Buffer.concat([readFileSync(file), Buffer.alloc(1, 7)]));
  const { problems } = await verify({ file });
  assert.ok(
    problems.some(({ kind }) => kind === 'trailing'),
    JSON.stringify(problems),
  );
});

for (const name of goldenNames('mapped-ram')) {
  test(`${name}: structure is checked without a manifest, and it is said so`, async () => {
    using folder = new Folder();
    const file = folder.file('vm');
    writeFileSync(file, goldenBytes(name));
    const result = await verify({ file, offset: expectedOf(name).offset });
    assert.deepEqual(result.problems, []);
    assert.match(result.notes.join(), /no manifest/);
    assert.equal(result.checkedBytes, 0);
  });
}

test('--no-checksums leaves the pages out, the rest is covered', async () => {
  using folder = new Folder();
  const file = folder.file('vm');
  const saved = await saveBuiltin(file, { checksums: false });
  assert.equal(saved.checksums, 'none');
  const result = await verify({ file });
  assert.ok(result.ok, JSON.stringify(result.problems));
  assert.match(result.notes.join(), /without checksums/);
  await using image = await MappedRamImage.open(file);
  flip(file, (image.blocks[0]?.bitmapOffset ?? 0) + 3);
  assert.deepEqual(
    (await verify({ file })).problems.map(({ kind }) => kind),
    ['manifest'],
  );
});

describe('signed files', () => {
  test('are trusted by the right key only, and have SHA-256 checksums', async () => {
    using folder = new Folder();
    const file = folder.file('vm');
    const { secret, open } = writeKeys(folder);
    const saved = await saveBuiltin(file, { sign: secret });
    assert.deepEqual([saved.signed, saved.checksums], [true, 'sha256-128']);
    assert.equal((await verify({ file })).signature, 'valid');
    const trusted = await verify({ file, requireSignature: open });
    assert.deepEqual([trusted.ok, trusted.signature], [true, 'trusted']);
    const foreign = await verify({ file, requireSignature: writeKeys(folder, 'other').open });
    assert.deepEqual(
      foreign.problems.map(({ kind, message }) => [kind, message]),
      [['signature', 'it is signed with another key than the required one']],
    );
  });

  const cover: [what: string, checksums: ManifestChecksums | undefined, message: RegExp][] = [
    ['checksums', undefined, /^its signature does not cover its memory, of which it has no checksums$/],
    [
      'checksums that cannot be forged',
      { algorithm: 'xxh64', chunkBytes: 2 ** 20 },
      /^its signature does not cover its memory, whose checksums \(xxh64\) can be forged$/,
    ],
  ];
  for (const [what, checksums, message] of cover) {
    test(`without ${what} of its memory a file is not sound where a signature is required (F21)`, async () => {
      using folder = new Folder();
      const file = folder.file('vm');
      const { privateKey, publicKey } = generateKeyPairSync('ed25519');
      const open = folder.file('key.pub');
      writeFileSync(open, publicKey.export({ format: 'pem', type: 'spki' }));
      await writeBuiltinImage(file);
      await seal(file, {
        signingKey: privateKey,
        // The default of `seal` is to make some.
        ...({ checksums } as object),
      });
      assert.deepEqual((await verify({ file })).problems, []);
      const { ok, problems, signature } = await verify({ file, requireSignature: open });
      assert.deepEqual(
        [ok, signature, problems.length, problems[0]?.kind],
        [false, 'trusted', 1, 'signature'],
      );
      assert.match(problems[0]?.message ?? '', message);
      await using vm = await BuiltinGuest.start({ size: 2 ** 20, begin: 'incoming' });
      await assert.rejects(
        restore({ file, vm, requireSignature: open }),
        failsWith('FORMAT', /does not cover its memory/),
      );
    });
  }

  test('a header before the stream is not sound where a signature is required (F21b)', async () => {
    using folder = new Folder();
    const file = folder.file('vm');
    const { secret, open } = writeKeys(folder);
    const offset = 2 ** 20;
    await saveBuiltin(file, { sign: secret, offset });
    const required = { file, requireSignature: open };
    assert.deepEqual((await verify({ ...required, offset })).notes, []);
    const fd = openSync(file, 'r+');
    const header = {
      ...{ complete: true, version: 2, littleEndian: true, dataLength: offset - LIBVIRT_HEADER_BYTES },
      ...{ wasRunning: true, cookieOffset: 0, format: 'raw' as const },
    };
    writeSync(fd, encodeLibvirtHeader(header), 0, LIBVIRT_HEADER_BYTES, 0);
    writeSync(fd, '<domain/>', LIBVIRT_HEADER_BYTES);
    closeSync(fd);
    const { ok, problems } = await verify(required);
    assert.equal(ok, false);
    assert.deepEqual(
      problems.map(({ kind, message }) => [kind, message]),
      [
        [
          'signature',
          'its first 1048576 bytes, before its stream, are not covered by its signature: a header of libvirt',
        ],
      ],
    );
    // Whoever gives the offset has put there what stands before it.
    const given = await verify({ ...required, offset });
    assert.deepEqual([given.ok, given.notes.length], [true, 1]);
    assert.match(given.notes[0] ?? '', /first 1048576 bytes.*not covered/);
  });

  test('a file of somebody else is not loaded where a signature is required, and verify says so (F13)', async () => {
    using folder = new Folder();
    const file = folder.file('vm');
    const { secret, open } = writeKeys(folder);
    await saveBuiltin(file, { sign: secret });
    chmodSync(file, 0o666);
    await using vm = await BuiltinGuest.start({ size: 8 << 20, begin: 'incoming' });
    await assert.rejects(
      restore({ file, vm, requireSignature: open }),
      failsWith('UNTRUSTED', /others may write to it, so it may change after.*copy it/),
    );
    const { ok, notes } = await verify({ file, requireSignature: open });
    assert.equal(ok, true);
    assert.match(notes[0] ?? '', /^others may write to it/);
    chmodSync(file, 0o600);
    await restore({ file, vm, requireSignature: open });
  });

  test('required: an unsigned or changed file is not restored, and the guest is left alone', async () => {
    using folder = new Folder();
    const { secret, open } = writeKeys(folder);
    await using vm = await BuiltinGuest.start({ size: 8 << 20, begin: 'incoming' });
    const unsigned = folder.file('unsigned');
    await saveBuiltin(unsigned);
    await assert.rejects(
      restore({ file: unsigned, vm, requireSignature: open }),
      failsWith('FORMAT', /not signed/),
    );
    const file = folder.file('signed');
    await saveBuiltin(file, { sign: secret });
    await using image = await MappedRamImage.open(file);
    const block = image.blocks[0];
    const offset = (block?.pagesOffset ?? 0) + (block?.bitmap.nextSet(300) ?? 0) * 4096;
    flip(file, offset);
    await assert.rejects(
      restore({ file, vm, requireSignature: open }),
      failsWith('FORMAT', /builtin.ram: its memory from 0x100000 to 0x200000 .*differs/),
    );
    assert.equal(vm.runState, 'inmigrate');
    flip(file, offset);
    await restore({ file, vm, requireSignature: open });
    assert.ok((await vm.checkMemory()).ok, 'the memory is damaged');
  });

  test('need checksums', async () => {
    using folder = new Folder();
    const { secret } = writeKeys(folder);
    await assert.rejects(
      saveBuiltin(folder.file('vm'), { sign: secret, checksums: false }),
      failsWith('USAGE', /needs checksums/),
    );
  });
});

test('restore refuses a damaged file: structure and device state always, pages when asked', async () => {
  using folder = new Folder();
  const file = folder.file('vm');
  await saveBuiltin(file);
  await using image = await MappedRamImage.open(file);
  const { tailOffset = 0 } = image;
  await using vm = await BuiltinGuest.start({ size: 8 << 20, begin: 'incoming' });
  flip(file, tailOffset + 60);
  await assert.rejects(restore({ file, vm }), failsWith('FORMAT', /^checking .*"mapram verify" shows all$/));
  flip(file, tailOffset + 60);
  const page = (image.blocks[0]?.pagesOffset ?? 0) + (image.blocks[0]?.bitmap.nextSet(0) ?? 0) * 4096;
  flip(file, page + 5);
  await assert.rejects(
    restore({ file, vm, verify: true }),
    failsWith('FORMAT', /differs from what was saved/),
  );
  assert.equal(vm.runState, 'inmigrate');
});
