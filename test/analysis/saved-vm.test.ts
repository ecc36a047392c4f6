/** Real files of every form through one interface: what is read must be what QEMU said about the VM. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { describe, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { openSource } from '../../src/analysis/open-saved-vm.js';
import type { SavedVm } from '../../src/analysis/saved-vm.js';
import { MapramError } from '../../src/errors.js';
import { nativeZstd } from '../../src/io/native.js';
import { createNativeZstdDecompressor } from '../../src/io/zstd-stream.js';
import { MemorySource } from '../../src/mapped-ram/byte-source.js';
import type { LibvirtFormat } from '../../src/stream/libvirt-header.js';
import { encodeLibvirtHeader } from '../../src/stream/libvirt-header.js';
import { checkEveryDeviceDecodes, checkX86Registers } from '../golden/check-devices.js';
import { expectedOf, goldenBytes, goldenNames } from '../golden/golden-file.js';
import { openGolden } from './unpack.js';

const LOW_MEMORY_BYTES = 0xa0000;

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

async function lowMemory(saved: SavedVm): Promise<string> {
  // Streams of machine types without configuration do not tell where memory lies.
  if (saved.configuration.machine !== '') return sha256(await saved.read(0, LOW_MEMORY_BYTES));
  const [block] = saved.blocks;
  assert.ok(block?.idstr === 'pc.ram', `the first block is ${block?.idstr}`);
  return sha256(await saved.readPages(block, 0, LOW_MEMORY_BYTES / saved.pageSize));
}

const readable = goldenNames('').filter((name) => !name.includes('-multifd') || name.includes('mapped-ram'));

for (const name of readable) {
  describe(name, () => {
    const expected = expectedOf(name);

    test('opens complete, with the blocks of the VM', async () => {
      await using saved = await openGolden(name);
      assert.equal(saved.complete, true);
      assert.equal(saved.form, /mapped-ram|sparse/.test(name) ? 'mapped-ram' : 'stream');
      assert.deepEqual(
        saved.blocks.map(({ idstr, usedLength }) => ({ idstr, usedLength })),
        expected.ramBlocks,
      );
    });

    test('gives every device', async () => {
      await using saved = await openGolden(name);
      const { devices } = saved;
      assert.ok(devices.length > 10, `length: ${devices.length}`);
      if (/no-description|dirty-bitmap|7.2-stream-bare/.test(name)) return;
      checkEveryDeviceDecodes(devices.filter(({ kind }) => kind === 'full'));
      if (expected.lowMemorySha256 !== undefined) checkX86Registers(devices, expected);
    });

    if (expected.lowMemorySha256 !== undefined && !name.includes('stream-ignore-shared')) {
      test('holds the guest memory that QEMU dumped, by guest address', async () => {
        await using saved = await openGolden(name);
        assert.equal(await lowMemory(saved), expected.lowMemorySha256);
      });
    }
  });
}

test('a stream says where its memory is when it is not in it', async () => {
  const multifd = await openGolden('pc-10.0-multifd');
  assert.match(multifd.problems.join(), /they went over multifd channels of their own/);
  const shared = await openGolden('pc-10.0-stream-ignore-shared');
  assert.match(shared.problems.join(), /saved with x-ignore-shared/);
});

/** A zstd frame of raw blocks: all that is needed to see that frames are taken apart. */
function zstdFrame(bytes: Uint8Array): Buffer {
  const window = 0x58;
  const pieces = [Buffer.of(0x28, 0xb5, 0x2f, 0xfd, 0, window)];
  for (let at = 0; at < bytes.length; at += 0x10000) {
    const block = bytes.subarray(at, at + 0x10000);
    const last = at + block.length === bytes.length ? 1 : 0;
    const header = Buffer.alloc(3);
    header.writeUIntLE(last | (block.length << 3), 0, 3);
    pieces.push(header, Buffer.from(block));
  }
  return Buffer.concat(pieces);
}

describe('libvirt images', () => {
  const xml = new TextEncoder().encode('<domain><name>guest</name></domain>\0');
  function libvirtImage(format: LibvirtFormat, body: Uint8Array, complete = true): MemorySource {
    const header = encodeLibvirtHeader({
      ...{ complete, version: 2, dataLength: xml.byteLength, wasRunning: true, format },
      ...{ cookieOffset: 0, littleEndian: true },
    });
    return new MemorySource(Buffer.concat([header, xml, body]), 'guest.save');
  }
  const stream = goldenBytes('pc-10.0-stream');
  const { lowMemorySha256 } = expectedOf('pc-10.0-stream');

  test('raw, gzip and zstd hold the stream', async () => {
    for (const [format, body] of [
      ['raw', stream],
      ['gzip', gzipSync(stream)],
      ['zstd', zstdFrame(stream)],
    ] as const) {
      await using saved = await openSource(libvirtImage(format, body));
      assert.equal(saved.container.libvirt?.xml, '<domain><name>guest</name></domain>');
      assert.deepEqual([saved.complete, saved.problems], [true, []]);
      assert.equal(await lowMemory(saved), lowMemorySha256);
    }
  });

  test('one that is marked unfinished is shown all the same', async () => {
    await using saved = await openSource(libvirtImage('raw', stream.subarray(0, 100_000), false));
    assert.equal(saved.complete, false);
    assert.match(saved.problems[0] ?? '', /LibvirtQemudPart/);
    assert.match(saved.problems[1] ?? '', /ends inside/);
    assert.equal(saved.blocks[0]?.idstr, 'pc.ram');
    assert.equal(saved.container.libvirt?.header.format, 'raw');
  });

  test('what cannot be decompressed names the command that can', async () => {
    const head = 92 + xml.byteLength;
    await assert.rejects(openSource(libvirtImage('xz', Buffer.alloc(100))), (error) => {
      assert.ok(error instanceof MapramError, String(error));
      assert.equal(error.code, 'UNSUPPORTED');
      assert.ok(error.message.includes(`tail -c +${head + 1} guest.save | xz -dc > FILE`), error.message);
      return true;
    });
  });

  test("the system's library takes zstd frames apart as Node's own does", {
    skip: nativeZstd() ? false : 'there is no libzstd',
  }, async () => {
    const decompressor = createNativeZstdDecompressor();
    assert.ok(decompressor, 'there is no decompressor');
    const frame = zstdFrame(stream);
    const pieces = Array.from({ length: 7 }, (_, index) =>
      frame.subarray(index * 50_000, (index + 1) * 50_000),
    );
    const chunks: Buffer[] = [];
    for await (const chunk of Readable.from([...pieces, frame.subarray(350_000)]).pipe(decompressor))
      chunks.push(chunk);
    assert.ok(Buffer.concat(chunks).equals(stream), 'the decompressed bytes are not the stream');
  });

  test('a compressed stream that is cut short gives what came before', async () => {
    const compressed = gzipSync(stream);
    await using saved = await openSource(
      libvirtImage('gzip', compressed.subarray(0, compressed.byteLength / 2)),
    );
    assert.equal(saved.complete, false);
    assert.match(saved.problems[0] ?? '', /compressed stream is damaged or cut short/);
    assert.equal(saved.blocks.length, 6);
  });
});

test('a compressed file of its own is opened too', async () => {
  const bytes = goldenBytes('pc-10.0-mapped-ram');
  await using saved = await openSource(new MemorySource(gzipSync(bytes), 'vm.gz'));
  assert.equal(saved.form, 'mapped-ram');
  assert.equal(await lowMemory(saved), expectedOf('pc-10.0-mapped-ram').lowMemorySha256);
});

test('guest addresses without RAM are refused', async () => {
  const saved = await openGolden('pc-10.0-stream');
  await assert.rejects(
    saved.read(0xd000_0000, 16),
    /no RAM that is known to lie at guest address 0xd0000000/,
  );
  await assert.rejects(saved.read(2 ** 21 - 8, 16), /0x200000/);
  assert.equal((await saved.read(2 ** 21 - 8, 8)).byteLength, 8);
});

test('files cut anywhere show what they have, or say why not', async () => {
  for (const name of [
    'pc-10.0-stream',
    'pc-10.0-stream-xbzrle',
    'pc-10.0-mapped-ram',
    'pc-7.2-stream-compress',
  ]) {
    const bytes = goldenBytes(name);
    for (let part = 1; part < 40; part++) {
      const cut = bytes.subarray(0, Math.floor((bytes.byteLength * part) / 40));
      const saved = await openSource(new MemorySource(cut, name));
      assert.ok(saved.problems.length > 0, `${name} cut to ${cut.byteLength}`);
      assert.ok(saved.blocks.length > 0, `length: ${saved.blocks.length}`);
    }
  }
});
