/** `native` saves: QEMU writes the file under mapram's direction. */
import assert from 'node:assert/strict';
import path from 'node:path';
import { describe, test } from 'node:test';
import { MappedRamImage } from '../../src/mapped-ram/image.js';
import { type SaveOptions, type SaveResult, save } from '../../src/snapshot/save/save.js';
import { startBootedVm } from '../support/booted-vm.js';
import { needs } from '../support/environment.js';
import { assertImageHoldsMemory } from '../support/image-witness.js';
import { startVm, type TestVm } from '../support/qemu.js';
import { assertGoesOn, assertQemuLoads, savedGuest } from '../support/save-expectations.js';

async function saveStopped(vm: TestVm, options: Omit<SaveOptions, 'vm'>): Promise<SaveResult> {
  return await save({ vm: vm.qmpPath, method: 'native', afterwards: 'stop', ...options });
}

describe('a native save of the tiny guest', needs({ qemu: '10.0', guest: 'tiny' }), () => {
  test('holds the memory of the guest, however it was made', async () => {
    await using vm = await startVm({ machine: 'pc', memory: 'shared-file' });
    for (const channels of [1, 2, 4]) {
      for (const directIo of ['on', 'off'] as const) {
        for (const offset of [0, 0x1234]) {
          await vm.console.waitForCounterAbove();
          const file = path.join(vm.folder, 'image');
          await saveStopped(vm, { file, channels, directIo, offset, force: true });
          await using image = await MappedRamImage.open(file, { offset });
          await assertImageHoldsMemory(image, vm);
          await vm.cont();
        }
      }
    }
    assert.deepEqual(vm.console.torn, []);
  });

  test('can be made again and again of a running guest', async () => {
    await using vm = await startVm({ machine: 'pc' });
    const file = path.join(vm.folder, 'image');
    for (let round = 0; round < 12; round++) {
      const live = round % 2 === 0;
      await save({ vm: vm.qmpPath, file, method: 'native', channels: 1 + (round % 4), live, force: true });
      assert.equal(await vm.status(), 'running');
    }
    await assertQemuLoads(file, { ...savedGuest(vm), counter: 0 }, { channels: 2, directIo: true });
    await vm.console.waitForCounterAbove();
    assert.deepEqual(vm.console.torn, []);
  });

  for (const machine of ['q35', 'microvm']) {
    test(`takes two RAM blocks or any other memory on ${machine}`, async () => {
      const memory = machine === 'q35' ? 'numa-anonymous' : 'anonymous';
      await using vm = await startVm({ machine, memory, memoryMiB: 128, fillMiB: 96 });
      const file = path.join(vm.folder, 'image');
      const { method } = await saveStopped(vm, { file, method: 'auto' });
      assert.equal(method, 'native');
      await assertQemuLoads(file, savedGuest(vm), { channels: 4 });
    });
  }
});

describe('a native save of the Linux guest', needs({ qemu: '10.0', guest: 'linux' }), () => {
  test('holds its memory, and the guest goes on', async () => {
    await using vm = await startBootedVm({ memory: 'shared-file' });
    const file = path.join(vm.folder, 'image');
    await saveStopped(vm, { file, directIo: 'on' });
    const saved = savedGuest(vm);
    await using image = await MappedRamImage.open(file);
    await assertImageHoldsMemory(image, vm);
    await vm.cont();
    await assertGoesOn(vm, saved);
  });
});
