/** `shared` saves: mapram writes the RAM of a real QEMU, and stock QEMU loads the file. */
import assert from 'node:assert/strict';
import { statfsSync, statSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { checkImage } from '../../src/mapped-ram/check-image.js';
import { MappedRamImage } from '../../src/mapped-ram/image.js';
import { partPathOf } from '../../src/snapshot/files/target-file.js';
import { restore } from '../../src/snapshot/restore/restore.js';
import { type SaveOptions, type SaveResult, save } from '../../src/snapshot/save/save.js';
import { startBootedVm } from '../support/booted-vm.js';
import { cliResult, startCli } from '../support/cli.js';
import { needs } from '../support/environment.js';
import { assertImageHoldsMemory } from '../support/image-witness.js';
import { descriptorsDuring, residentBytes } from '../support/probes.js';
import { startVm, type TestVm } from '../support/qemu.js';
import { assertGoesOn, assertQemuLoads, savedGuest } from '../support/save-expectations.js';

type Way = [channels: number, directIo: 'on' | 'off', offset: number];

const everyWay = [1, 2, 4].flatMap((channels) =>
  (['on', 'off'] as const).flatMap((directIo) =>
    [0, 0x1234].map((offset): Way => [channels, directIo, offset]),
  ),
);
const someWays: Way[] = [
  [1, 'on', 0x1234],
  [4, 'on', 0],
  [2, 'off', 0],
];

async function saveStopped(vm: TestVm, options: Omit<SaveOptions, 'vm'>): Promise<SaveResult> {
  return await save({ vm: vm.qmpPath, method: 'shared', afterwards: 'stop', ...options });
}

describe('a shared save of the tiny guest', needs({ qemu: '10.0', guest: 'tiny' }), () => {
  for (const machine of ['q35', 'pc', 'microvm']) {
    test(`is loaded by QEMU on ${machine}, however it was made`, async () => {
      await using vm = await startVm({ machine, memory: 'shared-file' });
      for (const [channels, directIo, offset] of machine === 'q35' ? everyWay : someWays) {
        const file = path.join(vm.folder, `${channels}-${directIo}-${offset}`);
        await vm.console.waitForCounterAbove();
        const result = await saveStopped(vm, { file, channels, directIo, offset });
        const saved = savedGuest(vm);
        assert.equal(result.directIo, directIo === 'on');
        assert.equal(result.channels, channels);
        assert.equal(result.fileBytes, statSync(file).size);
        assert.equal(statSync(file).mode & 0o777, 0o600);
        {
          await using image = await MappedRamImage.open(file, { offset });
          assert.deepEqual(checkImage(image), []);
          await assertImageHoldsMemory(image, vm);
        }
        // The other way round, so that no side relies on the other's choice.
        const load = { channels: channels === 1 ? 0 : 3, directIo: directIo === 'off' };
        await assertQemuLoads(file, saved, { ...load, ...(offset > 0 && { offset }) });
        await vm.cont();
      }
      await vm.console.waitForCounterAbove();
      assert.deepEqual(vm.console.torn, []);
    });
  }

  test('takes two RAM blocks', async () => {
    await using vm = await startVm({ memory: 'numa-shared-files', memoryMiB: 128, fillMiB: 96 });
    const file = path.join(vm.folder, 'image');
    await saveStopped(vm, { file });
    const saved = savedGuest(vm);
    await using image = await MappedRamImage.open(file);
    await assertImageHoldsMemory(image, vm);
    await assertQemuLoads(file, saved, { channels: 2, directIo: true });
  });

  test('gives the guest no memory that it did not have', async () => {
    await using vm = await startVm({ memory: 'shared-file', memoryMiB: 512 });
    await vm.console.waitForCounterAbove(30);
    const memory = vm.memoryFiles[0] ?? '';
    const before = statSync(memory).blocks;
    assert.ok(before * 512 < 128 * 2 ** 20, `${before} sectors were allocated before`);
    const file = path.join(vm.folder, 'image');
    for (const directIo of ['on', 'off'] as const)
      await save({ vm: vm.qmpPath, file, method: 'shared', directIo, force: true });
    assert.equal(statSync(memory).blocks, before);
    assert.ok(statSync(file).blocks * 512 < 64 * 2 ** 20, 'zero pages are holes of the file');
  });
});

const EXT4_MAGIC = 0xef53;

describe('a shared save of the Linux guest', needs({ qemu: '10.0', guest: 'linux' }), () => {
  for (const machine of ['q35', 'microvm']) {
    test(`goes on in stock QEMU and in one that mapram restores, on ${machine}`, async () => {
      await using vm = await startBootedVm({ machine, memory: 'shared-file' });
      const file = path.join(vm.folder, 'image');
      const { finished } = startCli([
        'save',
        '--method',
        'shared',
        '--direct-io',
        'on',
        '--json',
        vm.qmpPath,
        file,
      ]);
      const result = cliResult(await finished);
      assert.equal(result.directIo, true);
      assert.equal(result.runState, 'running');
      const saved = { ...savedGuest(vm), counter: 1 };
      await assertQemuLoads(file, saved, { channels: 2, directIo: true });

      await using restored = await startVm({ ...saved.options, incoming: true });
      await restore({ file, vm: restored.qmpPath, directIo: 'on' });
      await assertGoesOn(restored, saved);
      await assertGoesOn(vm, saved);
    });
  }

  test('opens its channels with O_DIRECT, the main descriptor without, and leaves no page cache', async (context) => {
    await using vm = await startBootedVm({ memory: 'shared-file' });
    const file = path.join(vm.folder, 'image');
    const saveWith = async (directIo: string) => {
      const args = ['save', '--force', '--method', 'shared', '--channels', '2', '--direct-io', directIo];
      const { pid, finished } = startCli([...args, '--json', vm.qmpPath, file]);
      const { result, seen } = await descriptorsDuring(pid, partPathOf(file), finished);
      cliResult(result);
      const channels = seen.filter(({ access }) => access === 'write').map(({ direct }) => direct);
      // Besides the main descriptor, one that tries whether the file system supports O_DIRECT is open for a moment.
      const main = seen.some(({ access, direct }) => access === 'read-write' && !direct);
      return { channels, main };
    };
    assert.deepEqual(await saveWith('off'), { channels: [false, false], main: true });
    const { size } = statSync(file);
    if (statfsSync(vm.folder).type === EXT4_MAGIC)
      assert.ok(residentBytes(file) > size / 10, 'a buffered save shows in the page cache');

    assert.deepEqual(await saveWith('on'), { channels: [true, true], main: true });
    if (statfsSync(vm.folder).type !== EXT4_MAGIC) context.diagnostic('no ext4: page cache not looked at');
    else
      assert.ok(
        residentBytes(file) <= size / 100,
        `${residentBytes(file)} of ${size} bytes are in the page cache`,
      );
  });
});
