/** Digests of chunks, held against a plain computation over the memory that was saved. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { truncateSync } from 'node:fs';
import { test } from 'node:test';
import createXxhash from 'xxhash-wasm';
import { digestChunkBytes } from '../../src/channels/file/digest-chunk-bytes.js';
import { FileChannels, type ZeroPageDetection } from '../../src/channels/file/file-channels.js';
import { createChunkHasher, DIGEST_BYTES, type DigestAlgorithm } from '../../src/checksums/chunk-hash.js';
import { CHUNK_STATE, DigestTable } from '../../src/checksums/digest-table.js';
import { type Fault, installFaults } from '../../src/io/faults.js';
import { block, KIB, MIB, naiveLoad, PAGE, pageOf, pokePage, Scratch } from './fixtures.js';

const LENGTH = 5 * MIB + 64 * KIB;
const CHUNK = MIB;
const { h64Raw } = await createXxhash();
const ALGORITHMS = Object.keys(DIGEST_BYTES) as DigestAlgorithm[];

function plainDigest(algorithm: DigestAlgorithm, pages: readonly { page: number; bytes: Buffer }[]): string {
  if (pages.length === 0) return '00'.repeat(DIGEST_BYTES[algorithm]);
  if (algorithm === 'xxh64-pages') {
    const digest = Buffer.alloc(8);
    const sum = pages.reduce((total, { page, bytes }) => total + h64Raw(bytes, BigInt(page)), 0n);
    digest.writeBigUInt64LE(sum % 2n ** 64n);
    return digest.toString('hex');
  }
  const bytes = Buffer.concat(pages.map((present) => present.bytes));
  if (algorithm === 'xxh64') return h64Raw(bytes).toString(16).padStart(16, '0');
  return createHash('sha256').update(bytes).digest('hex').slice(0, 32);
}

/** What the definition says: the present pages of each chunk, one behind the other. */
function plainDigests(algorithm: DigestAlgorithm, memory: Buffer, bitmap: SharedArrayBuffer): string[] {
  const bits = new Uint8Array(bitmap);
  const digests: string[] = [];
  for (let start = 0; start < memory.length; start += CHUNK) {
    const pages: { page: number; bytes: Buffer }[] = [];
    for (let at = start; at < Math.min(start + CHUNK, memory.length); at += PAGE) {
      const page = at / PAGE;
      if (((bits[page >> 3] ?? 0) >> (page & 7)) & 1)
        pages.push({ page, bytes: memory.subarray(at, at + PAGE) });
    }
    digests.push(plainDigest(algorithm, pages));
  }
  return digests;
}

const tableOf = (algorithm: DigestAlgorithm) =>
  DigestTable.create({ algorithm, chunkBytes: CHUNK, length: LENGTH });
const hexOf = (table: DigestTable) =>
  Array.from({ length: table.count }, (_, chunk) => Buffer.from(table.digest(chunk)).toString('hex'));

/** Scattered pages, a chunk of zero pages, a hole. */
function fill(fd: number): void {
  for (let page = 0; page < LENGTH / PAGE; page++) {
    const mib = Math.floor((page * PAGE) / MIB);
    if (mib === 2) continue;
    pokePage(fd, page, mib === 3 || page % 3 === 0 ? Buffer.alloc(PAGE) : pageOf(page));
  }
}

test('the hashes are the published ones', async () => {
  const digestOf = async (algorithm: DigestAlgorithm, text: string) => {
    const hasher = createChunkHasher(algorithm, PAGE);
    const target = Buffer.alloc(DIGEST_BYTES[algorithm]);
    hasher.update(Buffer.from('something else'), 0);
    hasher.finish(target);
    hasher.update(Buffer.from(text), 0);
    hasher.finish(target);
    return target.toString('hex');
  };
  assert.equal(await digestOf('xxh64', 'a'), 'd24ec4f1a98c6e5b');
  assert.equal(await digestOf('xxh64', 'abc'), '44bc2cf5ad770999');
  assert.equal(await digestOf('sha256-128', 'abc'), 'ba7816bf8f01cfea414140de5dae2223');
});

for (const algorithm of ALGORITHMS) {
  for (const zeroPageDetection of ['multifd', 'legacy', 'none'] satisfies ZeroPageDetection[]) {
    for (const copy of [false, true]) {
      test(`${algorithm} of what is written, ${zeroPageDetection}, ${copy ? 'copied' : 'mapped'}, and of the image`, async () => {
        using scratch = new Scratch();
        const fd = scratch.memory(LENGTH);
        fill(fd);
        const image = scratch.image(MIB + LENGTH);
        const written = tableOf(algorithm);
        const saved = block(fd, LENGTH, { digests: written.shape });
        const options = { path: image, direct: false, count: 2 };
        {
          await using channels = await FileChannels.open({
            ...options,
            access: 'write',
            blocks: [saved],
            zeroPageDetection,
            copy,
          });
          await channels.transfer();
        }
        const expected = plainDigests(algorithm, naiveLoad(image, saved), saved.bitmap);
        assert.deepEqual(hexOf(written), expected);
        assert.ok(zeroPageDetection === 'none' || expected[2] === expected[3], 'chunks without pages');
        const read = tableOf(algorithm);
        const { memory: _, ...slots } = saved;
        await using channels = await FileChannels.open({
          ...options,
          access: 'digest',
          blocks: [{ ...slots, digests: read.shape }],
        });
        await channels.transfer();
        assert.deepEqual(hexOf(read), expected);
      });
    }
  }
}

for (const algorithm of ALGORITHMS)
  test(`${algorithm}: pages that are sent again bring their chunks up to date, the others stay`, async () => {
    using scratch = new Scratch();
    const fd = scratch.memory(LENGTH);
    fill(fd);
    const image = scratch.image(MIB + LENGTH);
    const digests = tableOf(algorithm);
    const saved = block(fd, LENGTH, { digests: digests.shape });
    await using channels = await FileChannels.open({
      path: image,
      access: 'write',
      direct: false,
      count: 3,
      blocks: [saved],
    });
    await channels.transfer();
    const first = hexOf(digests);
    const changed = (page: number): [number, number] => [page * PAGE, PAGE];
    pokePage(fd, 1, pageOf(4711));
    pokePage(fd, 256 + 1, Buffer.alloc(PAGE));
    pokePage(fd, 512 + 7, pageOf(1));
    await channels.transfer({ ranges: [[changed(1), changed(257), changed(519)]] });
    const second = hexOf(digests);
    assert.deepEqual(second, plainDigests(algorithm, naiveLoad(image, saved), saved.bitmap));
    assert.deepEqual(
      second.map((digest, chunk) => digest !== first[chunk]),
      [true, true, true, false, false, false],
    );
  });

/** An image of the memory without digests, and what channels that read it have in common with those that wrote it. */
async function savedImage(scratch: Scratch, fd: number) {
  const image = scratch.image(MIB + LENGTH);
  const saved = block(fd, LENGTH);
  const common = { path: image, direct: false, count: 1 };
  await using channels = await FileChannels.open({ ...common, access: 'write', blocks: [saved] });
  await channels.transfer();
  return { image, saved, common };
}

test('chunks that cannot be read are marked, and the others digested', async () => {
  using scratch = new Scratch();
  const fd = scratch.memory(LENGTH);
  fill(fd);
  const { image, saved, common } = await savedImage(scratch, fd);
  truncateSync(image, MIB + 4.5 * MIB);
  using _ = installFaults([{ call: 'read', nth: 1, errno: 'EIO' }]);
  const digests = tableOf('xxh64');
  await using channels = await FileChannels.open({
    ...common,
    access: 'digest',
    blocks: [{ ...saved, digests: digests.shape }],
  });
  await channels.transfer();
  const { unreadable, done, truncated } = CHUNK_STATE;
  assert.deepEqual(
    Array.from({ length: digests.count }, (_, chunk) => digests.state(chunk)),
    [unreadable, done, done, done, truncated, truncated],
  );
});

test('pages that lie close together are read as one, and one by one where that fails', async () => {
  using scratch = new Scratch();
  const fd = scratch.memory(LENGTH);
  for (let page = 0; page < LENGTH / PAGE; page += 12) pokePage(fd, page, pageOf(page));
  const { image, saved, common } = await savedImage(scratch, fd);
  const expected = plainDigests('xxh64', naiveLoad(image, saved), saved.bitmap);
  const read = async (...faults: Fault[]) => {
    using counting = installFaults(faults);
    const digests = tableOf('xxh64');
    await using channels = await FileChannels.open({
      ...common,
      access: 'digest',
      blocks: [{ ...saved, digests: digests.shape }],
    });
    await channels.transfer();
    assert.deepEqual(hexOf(digests), expected);
    return counting.counts().read;
  };
  assert.equal(await read(), Math.ceil(LENGTH / CHUNK));
  const pagesOfFirstChunk = Math.ceil(CHUNK / PAGE / 12);
  const once = await read({ call: 'read', nth: 1, errno: 'EIO' });
  assert.equal(once, Math.ceil(LENGTH / CHUNK) + pagesOfFirstChunk);
});

test('chunks grow with the memory, so that all digests fit into a megabyte', () => {
  assert.equal(digestChunkBytes(2 ** 30, 'xxh64'), MIB);
  assert.equal(digestChunkBytes(2 ** 40, 'xxh64'), 16 * MIB);
  assert.equal(digestChunkBytes(2 ** 40, 'sha256-128'), 32 * MIB);
  assert.equal(digestChunkBytes(2 ** 46, 'xxh64'), 64 * MIB);
});
