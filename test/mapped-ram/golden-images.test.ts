/** Real mapped-ram files: what is read from them must be what QEMU said about the VM when it wrote them. */

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { closeSync, openSync, readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import type { PageRun } from '../../src/mapped-ram/bitmap.js';
import { MemorySource } from '../../src/mapped-ram/byte-source.js';
import { checkImage } from '../../src/mapped-ram/check-image.js';
import { type ImageBlock, MappedRamImage } from '../../src/mapped-ram/image.js';
import { ImageWriter } from '../../src/mapped-ram/image-writer.js';
import { checkEveryDeviceDecodes, checkX86Registers } from '../golden/check-devices.js';
import { expectedOf, goldenBytes, goldenNames } from '../golden/golden-file.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const LOW_MEMORY_PAGES = 0xa0000 / 4096;
const byName = (a: { idstr: string }, b: { idstr: string }) => a.idstr.localeCompare(b.idstr);

for (const name of goldenNames('mapped-ram')) {
  describe(name, () => {
    const expected = expectedOf(name);
    const bytes = goldenBytes(name);
    const opened = MappedRamImage.open(new MemorySource(bytes, name), { offset: expected.offset });
    const mainBlock = (image: MappedRamImage): ImageBlock => {
      const block = image.blocks.find(({ idstr }) =>
        /^(\w+\.ram|riscv_virt_board.ram|mach-virt.ram)$/.test(idstr),
      );
      assert.ok(block, 'there is no block');
      return block;
    };

    test('opens complete and without a complaint', async () => {
      const image = await opened;
      assert.deepEqual(
        { complete: image.complete, problems: image.problems },
        { complete: true, problems: [] },
      );
      assert.deepEqual(checkImage(image), []);
      assert.equal(image.container.offset, expected.offset);
      assert.equal(image.tail.trailingBytes, 0);
    });

    test('has the RAM blocks of the VM', async () => {
      const image = await opened;
      assert.deepEqual(
        image.blocks.map(({ idstr, usedLength }) => ({ idstr, usedLength })).sort(byName),
        expected.ramBlocks.sort(byName),
      );
    });

    test('lists the capabilities that were on and must be on to load it', async () => {
      const { configuration } = await opened;
      const announced = ['x-ignore-shared', 'mapped-ram'];
      assert.deepEqual(
        configuration.capabilities,
        announced.filter((capability) => expected.capabilities.includes(capability)),
      );
      const uuid = expected.arguments[expected.arguments.indexOf('-uuid') + 1] ?? '';
      assert.equal(
        Buffer.from(configuration.uuid ?? []).toString('hex'),
        expected.capabilities.includes('validate-uuid') ? uuid.replaceAll('-', '') : '',
      );
    });

    test('marks as many pages as QEMU wrote', async () => {
      const image = await opened;
      const marked = image.blocks.reduce((total, block) => total + block.bitmap.count(), 0);
      if (image.rounds > 1)
        assert.ok(marked <= expected.migration.normal, 'pages are written again in later rounds');
      else assert.equal(marked, expected.migration.normal);
    });

    test('decodes every device', async () => {
      const image = await opened;
      assert.ok(image.devices.length > 10, `length: ${image.devices.length}`);
      checkEveryDeviceDecodes(image.devices);
    });

    if (expected.lowMemorySha256 !== undefined) {
      test('holds the guest memory that QEMU dumped', async () => {
        const image = await opened;
        const contents = await image.readPages(mainBlock(image), 0, LOW_MEMORY_PAGES);
        assert.equal(createHash('sha256').update(contents).digest('hex'), expected.lowMemorySha256);
      });

      test('holds the registers that QEMU printed', async () =>
        checkX86Registers((await opened).devices, expected));
    }

    test('written again page by page is the same file, byte for byte', async () => {
      const image = await opened;
      const folder = temporaryFolder('image');
      const file = path.join(folder, 'copy');
      writeFileSync(file, bytes.subarray(0, expected.offset));
      const fd = openSync(file, 'r+');
      try {
        await rewrite(image, fd, file, expected.offset);
        const copy = readFileSync(file);
        forgetStaleSlots(image, bytes);
        assert.ok(copy.equals(bytes), 'the image was not written byte by byte as it was read');
      } finally {
        closeSync(fd);
        rmSync(folder, { recursive: true });
      }
    });
  });
}

/** Writes everything of `image` to a new one as a save would. */
async function rewrite(image: MappedRamImage, fd: number, file: string, offset: number): Promise<void> {
  const { configuration, blocks, ramSectionId } = image;
  const writer = await ImageWriter.create({ fd, path: file, offset, configuration, blocks, ramSectionId });
  await writer.writeStart();
  await writer.writeSections(image.earlySectionBytes);
  for (let round = 0; round < image.rounds; round++) await writer.writePart();
  for (const block of image.blocks) {
    const target = writer.block(block.idstr);
    assert.ok(target, 'there is no target');
    for (const run of image.runs(block, 256)) {
      const position = target.pagesOffset + run.first * block.pageSize;
      writeSync(fd, await image.readRun(block, run), 0, undefined, position);
      target.bitmap.setRange(run.first, run.count);
    }
  }
  await writer.writeEnd({ switchoverStart: image.switchoverStart });
  await writer.writeSections(image.tail.sectionBytes);
  await writer.finish(image.tail.descriptionText);
}

/** Zeroes the slots whose bit is clear: nobody reads them, so a copy does not have them. */
function forgetStaleSlots(image: MappedRamImage, bytes: Uint8Array): void {
  for (const block of image.blocks) {
    for (const run of block.bitmap.clearRuns()) slots(block, run, bytes).fill(0);
  }
}

function slots(block: ImageBlock, { first, count }: PageRun, bytes: Uint8Array): Uint8Array {
  const start = block.pagesOffset + first * block.pageSize;
  return bytes.subarray(start, start + count * block.pageSize);
}

test('the live save has slots with contents that its bitmap calls zero', async () => {
  const bytes = goldenBytes('pc-10.0-mapped-ram-live');
  const image = await MappedRamImage.open(new MemorySource(bytes));
  const block = image.block('pc.ram');
  assert.ok(block, 'there is no block');
  const stale: number[] = [];
  for (const run of block.bitmap.clearRuns()) {
    for (let page = run.first; page < run.first + run.count; page++) {
      if (slots(block, { first: page, count: 1 }, bytes).some((byte) => byte !== 0)) stale.push(page);
    }
  }
  assert.ok(stale.length > 0, 'the golden file was made to have some');
  for (const page of stale)
    assert.ok(
      (await image.readPage(block, page)).every((byte) => byte === 0),
      `page ${page} is not zero`,
    );
});

test('guest addresses are read where x-ignore-shared put them', async () => {
  const image = await MappedRamImage.open(new MemorySource(goldenBytes('pc-10.0-mapped-ram-ignore-shared')));
  const addresses = Object.fromEntries(image.blocks.map(({ idstr, guestAddress }) => [idstr, guestAddress]));
  assert.equal(addresses['pc.ram'], 0);
  assert.equal(addresses['pc.bios'], 0xffff0000);
});

test('devices that are set up before RAM are kept apart', async () => {
  const image = await MappedRamImage.open(new MemorySource(goldenBytes('q35-10.0-mapped-ram-virtio-mem')));
  assert.deepEqual(
    image.earlySections.map(({ idstr, delimitedBy }) => [idstr.replace(/^.*\//, ''), delimitedBy]),
    [['virtio-mem-device-early', 'description']],
  );
});
