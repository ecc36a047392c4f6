/** What is read from a live QEMU is what its guest had, and what is written is loaded by stock QEMU. */
import assert from 'node:assert/strict';
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import path from 'node:path';
import { describe, test } from 'node:test';
import { checkImage } from '../../src/mapped-ram/check-image.js';
import { MappedRamImage } from '../../src/mapped-ram/image.js';
import { ImageWriter, type ImageWriterBlock } from '../../src/mapped-ram/image-writer.js';
import { splitTail } from '../../src/stream/device-sections.js';
import type { StreamEvent } from '../../src/stream/stream-event.js';
import { StreamParser } from '../../src/stream/stream-parser.js';
import { readStream } from '../../src/stream/stream-reader.js';
import { concatenate } from '../../src/stream/stream-writer.js';
import { appendDescriptionKey } from '../../src/stream/vmdescription-text.js';
import { checkEveryDeviceDecodes } from '../golden/check-devices.js';
import { needs } from '../support/environment.js';
import { loadMappedRam, saveMappedRam, waitForMigration } from '../support/native-migration.js';
import { dumpPhysicalMemory } from '../support/probes.js';
import { startVm, type TestVm } from '../support/qemu.js';

const PAGE = 4096;
const MIB = 2 ** 20;
const MEMORY_BYTES = 64 * MIB;
const zeroPage = Buffer.alloc(PAGE);

/** The machine's main RAM block, by size: all others are smaller. */
function mainBlock(image: MappedRamImage) {
  const block = image.blocks.find(({ usedLength }) => usedLength === MEMORY_BYTES);
  assert.ok(block, 'there is no block');
  return block;
}

/** Asserts that the guest goes on where the source stopped, with the same memory. */
async function checkGuestGoesOn(destination: TestVm, source: TestVm): Promise<void> {
  const seen = source.console.counter;
  await destination.cont();
  const first = await destination.console.waitForCounterAbove(-1);
  // The source's last line may arrive late, or be one that it had begun, which both then write.
  const count = source.console.counter;
  assert.ok(first > seen && first <= count + 1, `${first} follows ${seen} to ${count}`);
  assert.equal(await destination.console.checksum(), source.console.bootChecksum);
  await destination.console.waitForCounterAbove(count + 20);
  assert.deepEqual(destination.console.torn, []);
}

async function writeCopy(image: MappedRamImage, file: string, offset: number): Promise<void> {
  const fd = openSync(file, 'w', 0o600);
  try {
    const { configuration, blocks, ramSectionId } = image;
    const writer = await ImageWriter.create({ fd, path: file, offset, configuration, blocks, ramSectionId });
    await writer.writeStart();
    await writer.writeSections(image.earlySectionBytes);
    for (const block of image.blocks) {
      const target = writer.block(block.idstr) as ImageWriterBlock;
      for (const run of image.runs(block, 256)) {
        writeSync(fd, await image.readRun(block, run), 0, undefined, target.pagesOffset + run.first * PAGE);
        target.bitmap.setRange(run.first, run.count);
      }
    }
    await writer.writeEnd({ switchoverStart: image.switchoverStart });
    await writer.writeSections(image.tail.sectionBytes);
    // Large enough that a reader with a limit of its own would stumble.
    await writer.finish(
      appendDescriptionKey(image.tail.descriptionText, 'mapram', { chunks: 'x'.repeat(MIB) }),
    );
  } finally {
    closeSync(fd);
  }
}

describe('a file that QEMU saved', needs({ qemu: '10.0', guest: 'tiny' }), () => {
  const cases = [
    { machine: 'q35', save: {}, copyOffset: 0 },
    { machine: 'pc', save: { channels: 2 }, copyOffset: 0x4321 },
    { machine: 'microvm', save: { offset: 0x1234 }, copyOffset: 0 },
  ];
  for (const { machine, save, copyOffset } of cases) {
    test(`has the guest's memory, and its copy is loaded by QEMU (${machine})`, async () => {
      await using source = await startVm({ machine });
      await source.console.waitForCounterAbove(30);
      await source.stop();
      const file = path.join(source.folder, 'image');
      await saveMappedRam(source, file, save);

      await using image = await MappedRamImage.open(file, { offset: save.offset });
      assert.deepEqual([image.complete, image.problems, checkImage(image)], [true, [], []]);
      checkEveryDeviceDecodes(image.devices);
      const memory = await dumpPhysicalMemory(source, MIB, MEMORY_BYTES - MIB);
      const block = mainBlock(image);
      const contents = await image.readPages(block, MIB / PAGE, block.pageCount - MIB / PAGE);
      assert.ok(memory.equals(contents), 'the memory is not what was saved');

      const copy = path.join(source.folder, 'copy');
      await writeCopy(image, copy, copyOffset);
      await using destination = await startVm({ machine, incoming: true });
      await loadMappedRam(destination, copy, copyOffset === 0 ? {} : { offset: copyOffset });
      await checkGuestGoesOn(destination, source);
    });
  }
});

/** Everything that QEMU sends over a Unix socket with `x-ignore-shared`: all but the RAM that is a shared file. */
async function receiveState(vm: TestVm): Promise<{ parser: StreamParser; events: StreamEvent[] }> {
  const socketPath = path.join(vm.folder, 'migration.sock');
  const parser = new StreamParser({ name: socketPath });
  const connection = new Promise<Socket>((resolve) => {
    const server = createServer((socket) => {
      server.close();
      resolve(socket);
    });
    server.listen(socketPath);
  });
  await vm.qmp.execute('migrate-set-capabilities', {
    capabilities: [
      { capability: 'x-ignore-shared', state: true },
      { capability: 'events', state: true },
    ],
  });
  await vm.qmp.execute('migrate', { uri: `unix:${socketPath}` });
  const events: StreamEvent[] = [];
  for await (const batch of readStream(await connection, parser)) events.push(...batch);
  await waitForMigration(vm);
  return { parser, events };
}

describe('the state of a guest whose RAM is a shared file', needs({ qemu: '10.0', guest: 'tiny' }), () => {
  for (const machine of ['q35', 'pc', 'microvm']) {
    test(`makes, with that file, an image that QEMU loads (${machine})`, async () => {
      await using source = await startVm({ machine, memory: 'shared-file' });
      await source.console.waitForCounterAbove(30);
      await source.stop();
      const { parser, events } = await receiveState(source);
      const { configuration, blocks } = parser;
      assert.deepEqual(configuration?.capabilities, ['x-ignore-shared']);
      assert.ok(
        blocks.every(({ guestAddress }) => guestAddress !== undefined),
        'a block has no guest address',
      );
      const pieces = events.filter((event) => event.type === 'tail');
      const tail = await splitTail(concatenate(pieces.map(({ data }) => data)), { started: parser.started });
      checkEveryDeviceDecodes(tail.sections);
      const start = events.find((event) => event.type === 'section');
      assert.ok(start, 'there is no start');

      const file = path.join(source.folder, 'image');
      const fd = openSync(file, 'w', 0o600);
      const writer = await ImageWriter.create({
        fd,
        path: file,
        configuration: { ...configuration, capabilities: ['mapped-ram'] },
        blocks: blocks.map(({ idstr, usedLength }) => ({ idstr, usedLength })),
        ramSectionId: start.sectionId,
      });
      await writer.writeStart();
      for (const event of events) {
        if (event.type !== 'pages') continue;
        const target = writer.block(event.block.idstr) as ImageWriterBlock;
        writeSync(fd, concatenate(event.data), 0, undefined, target.pagesOffset + event.offset);
        target.bitmap.setRange(event.offset / PAGE, event.data.length);
      }
      for (const [idstr, memoryFile] of source.memoryBlocks) {
        const target = writer.block(idstr) as ImageWriterBlock;
        const memory = readFileSync(memoryFile);
        for (let page = 0; page < target.pageCount; page++) {
          const contents = memory.subarray(page * PAGE, (page + 1) * PAGE);
          if (contents.equals(zeroPage)) continue;
          writeSync(fd, contents, 0, PAGE, target.pagesOffset + page * PAGE);
          target.bitmap.set(page);
        }
      }
      await writer.writeEnd({ switchoverStart: machine !== 'microvm' });
      await writer.writeSections(tail.sectionBytes);
      await writer.finish(tail.descriptionText);
      closeSync(fd);

      await using destination = await startVm({ machine, incoming: true });
      await loadMappedRam(destination, file, { channels: 2, directIo: true });
      await checkGuestGoesOn(destination, source);
    });
  }
});
