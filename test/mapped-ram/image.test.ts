import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { closeSync, openSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { MapramError } from '../../src/errors.js';
import { installFaults } from '../../src/io/faults.js';
import { type ByteSource, MemorySource } from '../../src/mapped-ram/byte-source.js';
import { checkImage } from '../../src/mapped-ram/check-image.js';
import { MappedRamImage } from '../../src/mapped-ram/image.js';
import { ImageWriter } from '../../src/mapped-ram/image-writer.js';
import { writeFully } from '../../src/mapped-ram/positional-write.js';
import { decodeDevice } from '../../src/stream/device-decoder.js';
import { encodeLibvirtHeader } from '../../src/stream/libvirt-header.js';
import { encodeSections } from '../../src/stream/stream-writer.js';
import { appendDescriptionKey } from '../../src/stream/vmdescription-text.js';
import { expectedOf, goldenBytes } from '../golden/golden-file.js';
import { failsWith } from '../support/fails-with.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const PAGE = 4096;
const folder = temporaryFolder('image');

const golden = goldenBytes('pc-10.0-mapped-ram');

function file(name: string, bytes: Uint8Array | string = ''): string {
  const target = path.join(folder, name);
  writeFileSync(target, bytes);
  return target;
}

/** An image with some bytes replaced, without a copy of it. */
class PatchedSource implements ByteSource {
  readonly name = 'patched';
  constructor(
    private readonly bytes: Uint8Array,
    private readonly patches: readonly { at: number; bytes: Uint8Array }[],
    readonly byteLength = bytes.byteLength,
  ) {}

  async read(position: number, length: number): Promise<Uint8Array> {
    const chunk = this.bytes.slice(position, Math.min(position + length, this.byteLength));
    for (const patch of this.patches) {
      for (const [index, byte] of patch.bytes.entries()) {
        const at = patch.at + index - position;
        if (at >= 0 && at < chunk.byteLength) chunk[at] = byte;
      }
    }
    return chunk;
  }
}

function be64(value: number): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value));
  return bytes;
}

describe('what is no mapped-ram image', () => {
  const libvirt = {
    ...{ complete: true, version: 2, dataLength: 100, wasRunning: true, format: 'zstd' as const },
    ...{ cookieOffset: 0, littleEndian: true },
  };
  const cases: [name: string, bytes: Uint8Array | string, message: RegExp][] = [
    ['empty', '', /it is an empty file/],
    ['gzip', gzipSync('x'), /it is a gzip file, not a migration stream; decompress it first/],
    ['qcow2', 'QFI\xfb', /there is no migration stream; give a file saved by QEMU/],
    ['elf', '\x7fELF...', /it is an ELF file/],
    ['zeros', new Uint8Array(5000), /it is all zeros/],
    ['channel', Uint8Array.of(0x11, 0x22, 0x33, 0x44), /it is a multifd channel/],
    ['text', 'hello there', /there is no migration stream/],
    ['plain', goldenBytes('pc-10.0-stream'), /it is a plain migration stream.*convert --to mapped-ram/],
    [
      'part',
      encodeLibvirtHeader({ ...libvirt, complete: false }),
      /LibvirtQemudPart, its save did not finish/,
    ],
    ['libvirt-cut', encodeLibvirtHeader(libvirt).subarray(0, 50), /libvirt header is cut short/],
    ['libvirt-short', encodeLibvirtHeader(libvirt), /announces 100 bytes of XML/],
    [
      'libvirt-zstd',
      Buffer.concat([encodeLibvirtHeader(libvirt), Buffer.alloc(200)]),
      /compressed by libvirt \(zstd\)/,
    ],
    [
      'libvirt-raw',
      Buffer.concat([encodeLibvirtHeader({ ...libvirt, format: 'raw' }), Buffer.alloc(200)]),
      /no migration stream behind its libvirt header/,
    ],
    ['magic', 'QEVM', /ends inside the stream header/],
    ['headers', golden.subarray(0, 0x80), /ends inside the START section of ram/],
    ['bitmap', golden.subarray(0, 0x90), /ends before the bitmap of pc.ram/],
  ];
  for (const [name, bytes, message] of cases) {
    test(`${name} is refused by what it is`, async () => {
      const target = file(name, bytes);
      await assert.rejects(MappedRamImage.open(target), (error) => {
        assert.ok(error instanceof MapramError, String(error));
        assert.match(error.message, message);
        assert.ok(error.message.includes(target), 'the file is named');
        return true;
      });
    });
  }

  test('a FIFO, a directory and a missing file are refused without waiting', async () => {
    const fifo = path.join(folder, 'fifo');
    execFileSync('mkfifo', [fifo]);
    await assert.rejects(MappedRamImage.open(fifo), /it is a FIFO/);
    await assert.rejects(MappedRamImage.open(folder), /it is a directory/);
    await assert.rejects(MappedRamImage.open(path.join(folder, 'missing')), /no such file/);
  });

  test('a wrong offset is said with the offset', async () => {
    const source = new MemorySource(goldenBytes('pc-10.0-mapped-ram-offset'));
    await assert.rejects(MappedRamImage.open(source, { offset: 0x1000 }), /at offset 4096/);
  });
});

test('the stream is found behind the header of a libvirt sparse image', async () => {
  const { offset } = expectedOf('pc-10.0-mapped-ram-offset');
  const header: Parameters<typeof encodeLibvirtHeader>[0] = {
    ...{ complete: true, version: 2, dataLength: offset - 92, wasRunning: true, format: 'sparse' },
    ...{ cookieOffset: 0, littleEndian: true },
  };
  const patches = [
    { at: 0, bytes: encodeLibvirtHeader(header) },
    { at: 92, bytes: new TextEncoder().encode('<domain type="qemu"/>\0') },
  ];
  const image = await MappedRamImage.open(
    new PatchedSource(goldenBytes('pc-10.0-mapped-ram-offset'), patches),
  );
  const { container, complete } = image;
  assert.deepEqual(
    [container.kind, container.offset, container.libvirt?.xml, complete],
    ['libvirt', offset, '<domain type="qemu"/>', true],
  );
  assert.deepEqual(checkImage(image), []);
});

test('a file cut in its pages opens incomplete, and says where', async () => {
  const cut = new PatchedSource(golden, [], 0x300000);
  const image = await MappedRamImage.open(cut);
  assert.equal(image.complete, false);
  assert.match(image.problems[0] ?? '', /ends inside the START section of ram/);
  assert.deepEqual(
    checkImage(image).map(({ kind, fatal }) => [kind, fatal]),
    [['incomplete', true]],
  );
  const shorter = await MappedRamImage.open(new PatchedSource(golden, [], 0x110000));
  const kinds = checkImage(shorter).map(({ kind }) => kind);
  assert.deepEqual(kinds, ['incomplete', 'truncated']);
  const [block] = shorter.blocks;
  assert.ok(block, 'there is no block');
  await assert.rejects(shorter.readPages(block, 0, block.pageCount), /ends inside the pages of pc.ram/);
});

test('a file cut in its vmdescription is complete, since QEMU loads it', async () => {
  const image = await MappedRamImage.open(new PatchedSource(golden, [], golden.byteLength - 100));
  assert.equal(image.complete, true);
  assert.deepEqual(
    checkImage(image).map(({ kind, message, fatal }) => [kind, message, fatal]),
    [['truncated', 'the vmdescription is cut short', false]],
  );
  assert.ok(
    image.devices.every(({ delimitedBy }) => delimitedBy === 'footer'),
    'a device is not delimited by its footer',
  );
});

test('zeros behind the end, fewer than a sector, are padding', async () => {
  for (const [zeros, kinds] of [
    [7, []],
    [4095, []],
    [4096, ['trailing']],
  ] as const) {
    const padded = new MemorySource(Buffer.concat([golden, Buffer.alloc(zeros)]));
    const image = await MappedRamImage.open(padded);
    assert.deepEqual(
      checkImage(image).map(({ kind }) => kind),
      kinds,
    );
  }
});

test('bytes behind the end are noticed', async () => {
  const image = await MappedRamImage.open(new MemorySource(Buffer.concat([golden, Buffer.alloc(7, 1)])));
  assert.deepEqual(
    checkImage(image).map(({ kind, message }) => [kind, message]),
    [['trailing', '7 bytes follow the end of the stream']],
  );
});

describe('a damaged header', () => {
  const at = 0x72;
  const cases: [string, { at: number; bytes: Uint8Array }, string | RegExp][] = [
    ['version 0', { at: at + 3, bytes: Uint8Array.of(0) }, 'header'],
    ['a newer version', { at: at + 3, bytes: Uint8Array.of(2) }, /version 2, only 1 is supported/],
    ['no page size', { at: at + 4, bytes: be64(0) }, /has page size 0/],
    ['an odd page size', { at: at + 4, bytes: be64(4097) }, /has page size 4097/],
    ['a bitmap before its header', { at: at + 12, bytes: be64(5) }, /places its bitmap at 5/],
    ['a bitmap inside the pages', { at: at + 12, bytes: be64(0x100000 - 8) }, /reaches into its pages/],
    ['pages before the bitmap', { at: at + 20, bytes: be64(0) }, /its pages at 0/],
    ['pages at no number', { at: at + 20, bytes: be64(2 ** 60) }, /its pages at 11529215046068/],
  ];
  for (const [name, patch, expectation] of cases) {
    test(`${name} is noticed`, async () => {
      const opening = MappedRamImage.open(new PatchedSource(golden, [patch]));
      if (typeof expectation !== 'string') await assert.rejects(opening, expectation);
      else assert.deepEqual(checkImage(await opening)[0]?.kind, expectation);
    });
  }

  test('bits past the last page are noticed', async () => {
    const image = await MappedRamImage.open(new MemorySource(golden));
    const block = image.block('/rom@etc/acpi/rsdp');
    assert.ok(block, 'there is no block');
    const patch = { at: block.bitmapOffset, bytes: Uint8Array.of(0xff) };
    const problems = checkImage(await MappedRamImage.open(new PatchedSource(golden, [patch])));
    assert.deepEqual(
      problems.map(({ kind, where, message }) => [kind, where, message]),
      [['bitmap', '/rom@etc/acpi/rsdp', '7 bits are set past its last page, 0']],
    );
  });
});

test('a device section of another length than described is noticed', async () => {
  const image = await MappedRamImage.open(new MemorySource(golden));
  const text = image.tail.descriptionText ?? '';
  const fd = openSync(file('edited'), 'r+');
  try {
    const writer = await ImageWriter.create({
      ...{ fd, path: 'edited', configuration: image.configuration, blocks: image.blocks, ramSectionId: 1 },
    });
    await writer.writeStart();
    await writer.writeEnd({ switchoverStart: false });
    const [timer, ...others] = image.devices;
    assert.ok(timer, 'there is no timer');
    const longer = { ...timer, data: new Uint8Array(timer.data.byteLength + 1) };
    await writer.writeSections(encodeSections([longer, ...others.slice(1)]));
    await writer.finish(appendDescriptionKey(text, 'mapram', { format: 1 }));
  } finally {
    closeSync(fd);
  }
  await using edited = await MappedRamImage.open(path.join(folder, 'edited'));
  assert.deepEqual(edited.manifest, { format: 1 });
  assert.deepEqual(
    checkImage(edited).map(({ kind, where, message }) => [kind, where, message]),
    [
      ['device', 'timer', 'its data do not have the length that the vmdescription gives'],
      ['device', 'cpu_common', 'instance 0 is described but has no section'],
    ],
  );
});

test('an array of pointers that QEMU before 10.0 describes by its null pointers is no fault (guests 5)', async () => {
  const image = await MappedRamImage.open(new MemorySource(golden));
  const [timer] = image.devices;
  assert.ok(timer?.description, 'there is no timer, or it is not described');
  // As `css` of s390x: all but one of the pointers are null, and each is said to take a byte.
  const nothing = { vmsd_name: '', version: 0, fields: [] };
  const described = {
    name: timer.idstr,
    instance_id: timer.instanceId,
    vmsd_name: timer.idstr,
    version: timer.versionId,
    fields: [{ name: 'css', array_len: 3, type: 'struct', struct: nothing, size: 1 }],
  };
  const fd = openSync(file('pointers'), 'r+');
  try {
    const writer = await ImageWriter.create({
      ...{ fd, path: 'pointers', configuration: image.configuration, blocks: image.blocks, ramSectionId: 1 },
    });
    await writer.writeStart();
    await writer.writeEnd({ switchoverStart: false });
    await writer.writeSections(encodeSections([{ ...timer, data: new Uint8Array(20).fill(0x30) }]));
    await writer.finish(JSON.stringify({ page_size: PAGE, devices: [described] }));
  } finally {
    closeSync(fd);
  }
  await using edited = await MappedRamImage.open(path.join(folder, 'pointers'));
  assert.deepEqual(checkImage(edited), []);
  assert.equal(edited.devices[0]?.data.byteLength, 20);
});

test('a page is read from its slot if its bit is set, and is zero if not', async () => {
  const page = fc.record({ set: fc.boolean(), fill: fc.integer({ min: 1, max: 255 }) });
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(page, { minLength: 1, maxLength: 9 }), { minLength: 1, maxLength: 3 }),
      fc.nat(3000),
      fc.boolean(),
      async (blocks, offset, ignoreShared) => {
        const target = path.join(folder, 'random');
        const fd = openSync(target, 'w');
        try {
          const writer = await ImageWriter.create({
            fd,
            path: target,
            offset,
            configuration: {
              machine: 'pc',
              capabilities: ignoreShared ? ['x-ignore-shared', 'mapped-ram'] : ['mapped-ram'],
            },
            blocks: blocks.map((pages, index) => ({
              idstr: `block ${index}`,
              usedLength: pages.length * PAGE,
              ...(ignoreShared ? { guestAddress: index * 2 ** 32 } : {}),
            })),
            ramSectionId: 5,
          });
          await writer.writeStart();
          for (const [index, pages] of blocks.entries()) {
            const block = writer.blocks[index];
            assert.ok(block, 'there is no block');
            for (const [number, { set, fill }] of pages.entries()) {
              const slot = block.pagesOffset + number * PAGE;
              await writeFully(fd, new Uint8Array(PAGE).fill(fill), slot, target);
              if (set) block.bitmap.set(number);
            }
          }
          await writer.writeEnd({ switchoverStart: true });
          await writer.finish();
        } finally {
          closeSync(fd);
        }
        await using image = await MappedRamImage.open(target, { offset });
        assert.equal(image.complete, true);
        assert.equal(image.ramSectionId, 5);
        assert.equal(image.switchoverStart, true);
        for (const [index, pages] of blocks.entries()) {
          const block = image.blocks[index];
          assert.ok(block, 'there is no block');
          assert.equal(block.guestAddress, ignoreShared ? index * 2 ** 32 : undefined);
          const contents = await image.readPages(block, 0, pages.length);
          const expected = pages.map(({ set, fill }) => (set ? fill : 0));
          for (const [number, fill] of expected.entries()) {
            assert.ok(
              contents.subarray(number * PAGE, (number + 1) * PAGE).every((byte) => byte === fill),
              `page ${number} has other contents`,
            );
          }
        }
      },
    ),
    { numRuns: 30 },
  );
});

describe('the image writer', () => {
  const options = {
    path: 'target',
    configuration: { machine: 'pc', capabilities: ['mapped-ram'] },
    blocks: [{ idstr: 'pc.ram', usedLength: PAGE }],
    ramSectionId: 1,
  };

  test('goes on after short writes', async () => {
    const target = file('short');
    const fd = openSync(target, 'r+');
    using _ = installFaults([{ call: 'write', nth: 1, times: Number.POSITIVE_INFINITY, maximumBytes: 3 }]);
    const writer = await ImageWriter.create({ ...options, fd });
    await writer.writeStart();
    await writer.writeEnd({ switchoverStart: false });
    assert.equal(await writer.finish(), writer.position);
    closeSync(fd);
    await using image = await MappedRamImage.open(target);
    assert.deepEqual(image.problems, []);
  });

  test('says that the disk is full', async () => {
    const fd = openSync(file('full'), 'r+');
    using _ = installFaults([{ call: 'write', nth: 2, errno: 'ENOSPC' }]);
    const writer = await ImageWriter.create({ ...options, fd });
    await assert.rejects(writer.writeStart(), failsWith('NO_SPACE', /writing target:.*offset/));
    closeSync(fd);
  });

  test('refuses a configuration without mapped-ram and a machine without RAM', async () => {
    const fd = openSync(file('refused'), 'r+');
    const configuration = { machine: 'pc', capabilities: [] };
    await assert.rejects(
      ImageWriter.create({ ...options, fd, configuration }),
      /does not list the capability/,
    );
    await assert.rejects(ImageWriter.create({ ...options, fd, blocks: [] }), /no RAM block/);
    closeSync(fd);
  });

  test('cuts off what an older, longer file had', async () => {
    const target = file('longer', new Uint8Array(3 * 2 ** 20).fill(0xee));
    const fd = openSync(target, 'r+');
    const writer = await ImageWriter.create({ ...options, fd, offset: 10 });
    await writer.writeStart();
    await writer.writeEnd({ switchoverStart: false });
    await writer.finish('{}');
    closeSync(fd);
    await using image = await MappedRamImage.open(target, { offset: 10 });
    assert.equal(image.tail.trailingBytes, 0);
    const [block] = image.blocks;
    assert.ok(block, 'there is no block');
    assert.ok(
      (await image.readRun(block, { first: 0, count: 1 })).every((byte) => byte === 0),
      'the page is not zero',
    );
  });
});

test('damaged images end in an answer or a MapramError, never otherwise', async () => {
  const image = await MappedRamImage.open(new MemorySource(golden));
  const headers = [0, ...image.blocks.map(({ recordOffset }) => recordOffset)];
  const tail = image.tailOffset ?? 0;
  const place = fc.oneof(
    fc.record({ base: fc.constantFrom(...headers), step: fc.nat(120) }).map(({ base, step }) => base + step),
    fc.integer({ min: tail - 200, max: golden.byteLength - 1 }),
  );
  const bytes = fc.oneof(
    fc.uint8Array({ minLength: 1, maxLength: 8 }),
    fc.constantFrom(new Uint8Array(8).fill(0xff), new Uint8Array(8), Uint8Array.of(0x7f, 255, 255, 255)),
  );
  const patches = fc.array(fc.record({ at: place, bytes }), { minLength: 1, maxLength: 4 });
  const length = fc.oneof(fc.constant(golden.byteLength), place);
  await fc.assert(
    fc.asyncProperty(patches, length, async (list, byteLength) => {
      try {
        const damaged = await MappedRamImage.open(new PatchedSource(golden, list, byteLength));
        checkImage(damaged);
        for (const { description, data } of damaged.devices) if (description) decodeDevice(description, data);
        for (const block of damaged.blocks) {
          const run = damaged.runs(block).next().value;
          if (run) await damaged.readPage(block, run.first);
        }
      } catch (error) {
        assert.ok(error instanceof MapramError, String(error));
      }
    }),
    { numRuns: 150 },
  );
});
