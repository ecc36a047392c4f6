/** Restores by `shared`: mapram reads the pages into the RAM of a real QEMU, which gets its device state alone. */
import assert from 'node:assert/strict';
import { closeSync, openSync, writeSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { MapramError } from '../../src/errors.js';
import { restore } from '../../src/snapshot/restore.js';
import { save } from '../../src/snapshot/save.js';
import { needs } from '../support/environment.js';
import { startVm, type TestVm, type VmOptions } from '../support/qemu.js';
import { assertGoesOn, type SavedGuest, savedGuest } from '../support/save-expectations.js';

/** A guest that has counted for a while, saved and stopped. */
async function saved(options: VmOptions): Promise<{ vm: TestVm; file: string; guest: SavedGuest }> {
  const vm = await startVm(options);
  await vm.console.waitForCounterAbove(3);
  const file = path.join(vm.folder, 'image');
  await save({ vm: vm.qmpPath, file, afterwards: 'stop' });
  return { vm, file, guest: savedGuest(vm) };
}

/** Memory that is not zero where the guest's is: loading must not rely on fresh memory. */
function soil(vm: TestVm): void {
  const [file = ''] = vm.memoryFiles;
  const fd = openSync(file, 'r+');
  try {
    for (let mib = 2; mib < 62; mib += 5) writeSync(fd, Buffer.alloc(8192, 0xa5), 0, 8192, mib << 20);
  } finally {
    closeSync(fd);
  }
}

describe('restore of the tiny guest into shared memory', needs({ qemu: '10.0', guest: 'tiny' }), () => {
  const ways: VmOptions[] = [
    { memory: 'shared-file' },
    { memory: 'memfd', machine: 'pc' },
    { memory: 'numa-shared-files', memoryMiB: 128, fillMiB: 64 },
    { memory: 'shared-file', machine: 'microvm' },
  ];
  for (const options of ways) {
    test(`goes on with ${options.memory} on ${options.machine ?? 'q35'}`, async () => {
      const { vm, file, guest } = await saved(options);
      await using _ = vm;
      for (const [directIo, channels] of [
        ['on', 1],
        ['off', 3],
      ] as const) {
        await using restored = await startVm({ ...guest.options, incoming: true });
        if (options.memory === 'shared-file') soil(restored);
        const result = await restore({ file, vm: restored.qmpPath, directIo, channels, cont: true });
        assert.deepEqual(
          [result.method, result.channels, result.directIo, result.runState],
          ['shared', channels, directIo === 'on', 'running'],
        );
        await assertGoesOn(restored, guest);
      }
    });
  }

  test('is refused where the memory is private, which auto leaves to QEMU', async () => {
    const { vm, file, guest } = await saved({ memory: 'shared-file' });
    await using _ = vm;
    await using restored = await startVm({ ...guest.options, memory: 'anonymous', incoming: true });
    await assert.rejects(
      restore({ file, vm: restored.qmpPath, method: 'shared' }),
      (error) =>
        error instanceof MapramError &&
        error.code === 'UNSUPPORTED' &&
        /none of its memory/.test(error.message),
    );
    assert.equal((await restore({ file, vm: restored.qmpPath, cont: true })).method, 'native');
    await assertGoesOn(restored, guest);
  });

  test('leaves QEMU as it was when it is cancelled, and can be tried again', async () => {
    const { vm, file, guest } = await saved({ memory: 'shared-file' });
    await using _ = vm;
    await using restored = await startVm({ ...guest.options, incoming: true });
    const controller = new AbortController();
    controller.abort();
    await assert.rejects(restore({ file, vm: restored.qmpPath, signal: controller.signal }));
    assert.equal(await restored.status(), 'inmigrate');
    await restore({ file, vm: restored.qmpPath, cont: true });
    await assertGoesOn(restored, guest);
  });
});

describe('restore of QEMU 7.2 into shared memory', needs({ qemu: '7.2', guest: 'tiny' }), () => {
  test('goes on, although that QEMU cannot read the file', async () => {
    const { vm, file, guest } = await saved({ qemu: '7.2', machine: 'pc', memory: 'shared-file' });
    await using _ = vm;
    await using restored = await startVm({ ...guest.options, qemu: '7.2', incoming: true });
    const result = await restore({ file, vm: restored.qmpPath, cont: true });
    assert.equal(result.method, 'shared');
    await assertGoesOn(restored, guest);
  });
});
