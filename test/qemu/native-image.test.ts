/** Files that QEMU itself saved, read by mapram, against the memory of the guest that was saved. */
import assert from 'node:assert/strict';
import path from 'node:path';
import { describe, test } from 'node:test';
import { checkImage } from '../../src/mapped-ram/check-image.js';
import { MappedRamImage } from '../../src/mapped-ram/image.js';
import { startBootedVm } from '../support/booted-vm.js';
import { needs } from '../support/environment.js';
import { assertImageHoldsMemory } from '../support/image-witness.js';
import { saveMappedRam } from '../support/native-migration.js';
import { dumpPhysicalMemory } from '../support/probes.js';
import { startVm } from '../support/qemu.js';

type Way = [channels: number, directIo: boolean, offset: number | undefined];

const everyWay = [0, 1, 2, 4].flatMap((channels) =>
  [false, true].flatMap((directIo) => [undefined, 0x1234].map((offset): Way => [channels, directIo, offset])),
);
const someWays: Way[] = [
  [0, false, undefined],
  [1, true, 0x1234],
  [4, true, undefined],
];

describe("MappedRamImage on QEMU's files", needs({ qemu: '10.0', guest: 'tiny' }), () => {
  for (const machine of ['q35', 'pc', 'microvm']) {
    test(`holds the memory of a stopped ${machine}, however it was saved`, async () => {
      await using vm = await startVm({ machine, memory: 'shared-file' });
      for (const [channels, directIo, offset] of machine === 'q35' ? everyWay : someWays) {
        // QEMU does not save a VM again that has not run since.
        await vm.cont();
        await vm.console.waitForCounterAbove();
        await vm.stop();
        const file = path.join(vm.folder, 'image');
        await saveMappedRam(vm, file, { channels, directIo, ...(offset && { offset }) });
        await using image = await MappedRamImage.open(file, { ...(offset && { offset }) });
        assert.equal(image.container.offset, offset ?? 0);
        assert.deepEqual(checkImage(image), []);
        await assertImageHoldsMemory(image, vm);
      }
    });
  }

  test('holds two RAM blocks', async () => {
    await using vm = await startVm({ memory: 'numa-shared-files', memoryMiB: 128, fillMiB: 96 });
    await vm.stop();
    const file = path.join(vm.folder, 'image');
    await saveMappedRam(vm, file, { channels: 2, directIo: true });
    await using image = await MappedRamImage.open(file);
    assert.deepEqual(
      image.blocks.slice(0, 2).map(({ idstr, usedLength }) => [idstr, usedLength]),
      [
        ['node0', 64 * 2 ** 20],
        ['node1', 64 * 2 ** 20],
      ],
    );
    await assertImageHoldsMemory(image, vm);
  });

  test('holds the last state of pages that changed during a live save', async () => {
    await using vm = await startVm({ machine: 'pc', memory: 'shared-file' });
    const file = path.join(vm.folder, 'image');
    await saveMappedRam(vm, file, { channels: 4, directIo: true });
    await using image = await MappedRamImage.open(file);
    await assertImageHoldsMemory(image, vm);
  });

  test('holds firmware as the guest sees it', async () => {
    await using vm = await startVm({ machine: 'pc', guest: 'none' });
    await vm.stop();
    const file = path.join(vm.folder, 'image');
    await saveMappedRam(vm, file);
    await using image = await MappedRamImage.open(file);
    const block = image.block('pc.bios');
    assert.ok(block, 'there is no block');
    const firmware = await image.readPages(block, 0, block.pageCount);
    assert.ok(
      firmware.some((byte) => byte !== 0),
      'the firmware is all zero',
    );
    const seen = await dumpPhysicalMemory(vm, 2 ** 32 - block.usedLength, block.usedLength);
    assert.ok(seen.equals(firmware), 'the guest sees other firmware');
  });
});

describe("MappedRamImage on QEMU's file of a Linux guest", needs({ qemu: '10.0', guest: 'linux' }), () => {
  test('holds its memory', async () => {
    await using vm = await startBootedVm({ memory: 'shared-file' });
    await vm.stop();
    const file = path.join(vm.folder, 'image');
    await saveMappedRam(vm, file, { channels: 2, directIo: true });
    await using image = await MappedRamImage.open(file);
    const normalPages = await assertImageHoldsMemory(image, vm);
    assert.ok(normalPages * 4096 > vm.options.fillMiB * 2 ** 20, `${normalPages} pages`);
  });
});
