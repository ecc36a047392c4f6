/** Restores by `shared`: mapram reads the pages into the RAM of a real QEMU, which gets its device state alone. */

import assert from 'node:assert/strict';
import { closeSync, openSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { restore } from '../../src/snapshot/restore/restore.js';
import { save } from '../../src/snapshot/save/save.js';
import { needs } from '../support/environment.js';
import { failsWith } from '../support/fails-with.js';
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
      failsWith('UNSUPPORTED', /none of its memory/),
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

/** Contents of a saved, stopped guest without a program: a page with contents and, elsewhere, zeros. */
const MARKED_AT = 0x140_0000;
const ZERO_AT = 0x180_0000;

describe('restore into memory that is not fresh', needs({ qemu: '10.0' }), () => {
  const memory = { guest: 'none', memoryMiB: 64, paused: true } as const;

  async function savedMarks(options: VmOptions): Promise<{ vm: TestVm; file: string }> {
    const vm = await startVm({ ...memory, memory: 'shared-file', ...options });
    const fd = openSync(vm.memoryFiles[0] as string, 'r+');
    writeSync(fd, Buffer.alloc(4096, 'saved'), 0, 4096, MARKED_AT);
    closeSync(fd);
    const file = path.join(vm.folder, 'image');
    await save({ vm: vm.qmpPath, file });
    return { vm, file };
  }

  async function guestBytes(vm: TestVm, address: number, size: number): Promise<Buffer> {
    const dump = path.join(vm.folder, 'dump');
    await vm.qmp.execute('pmemsave', { val: address, size, filename: dump });
    return readFileSync(dump);
  }

  async function assertAsSaved(vm: TestVm, at = 0x10_0000, end = 64 << 20): Promise<void> {
    const found = await guestBytes(vm, at, end - at);
    const expected = Buffer.alloc(end - at);
    if (MARKED_AT >= at && MARKED_AT < end) expected.fill('saved', MARKED_AT - at, MARKED_AT - at + 4096);
    for (let page = 0; page < found.length; page += 4096) {
      const same = found.compare(expected, page, page + 4096, page, page + 4096) === 0;
      assert.ok(same, `page at ${(at + page).toString(16)} is stale`);
    }
  }

  test('leaves nothing stale in a memory file that was used before (guests 3)', async () => {
    await using saved = (await savedMarks({})).vm;
    const file = path.join(saved.folder, 'image');
    for (const method of ['auto', 'shared', 'stream'] as const) {
      await using restored = await startVm({ ...memory, memory: 'shared-file', incoming: true });
      soil(restored);
      const result = await restore({ file, vm: restored.qmpPath, method });
      assert.equal(result.method, method === 'stream' ? 'stream' : 'shared');
      await assertAsSaved(restored);
    }
  });

  test('refuses to have QEMU leave old pages there (guests 3)', async () => {
    await using saved = (await savedMarks({})).vm;
    const file = path.join(saved.folder, 'image');
    await using restored = await startVm({ ...memory, memory: 'shared-file', incoming: true });
    soil(restored);
    await assert.rejects(
      restore({ file, vm: restored.qmpPath, method: 'native' }),
      failsWith('UNSUPPORTED', /pc\.ram is not zero where the file has zero pages.*use --method stream/),
    );
    assert.equal(await restored.status(), 'inmigrate');
  });

  test('has QEMU read the file where its memory is fresh', async () => {
    await using saved = (await savedMarks({})).vm;
    const file = path.join(saved.folder, 'image');
    for (const kind of ['shared-file', 'anonymous'] as const) {
      await using restored = await startVm({ ...memory, memory: kind, incoming: true });
      const method = kind === 'anonymous' ? 'auto' : 'native';
      assert.equal((await restore({ file, vm: restored.qmpPath, method })).method, 'native');
      await assertAsSaved(restored);
    }
  });

  test('plays the file where a private mapping shows what a file held before (guests 3)', async () => {
    await using saved = (await savedMarks({})).vm;
    await using restored = await startVm({ ...memory, memory: 'private-file', incoming: true });
    soil(restored);
    const result = await restore({ file: path.join(saved.folder, 'image'), vm: restored.qmpPath });
    assert.equal(result.method, 'stream');
    assert.match(result.methodReason, /is not zero where the file has zero pages/);
    await assertAsSaved(restored);
  });

  test('plays the file where QEMU has written at reset what the guest had cleared (guests 3)', async () => {
    const extraArgs = ['-device', `loader,addr=${ZERO_AT},data=0x41,data-len=8`];
    const { vm, file } = await savedMarks({});
    await using _ = vm;
    await using restored = await startVm({ ...memory, memory: 'anonymous', extraArgs, incoming: true });
    const result = await restore({ file, vm: restored.qmpPath });
    assert.equal(result.method, 'stream');
    await assertAsSaved(restored);
  });

  test('fills what is shared and sends the rest, where one NUMA node is private (guests 3)', async () => {
    const numa = { ...memory, memory: 'numa-shared-files', memoryMiB: 128 } as const;
    const { vm, file } = await savedMarks(numa);
    await using _ = vm;
    const shared = { file: path.join(vm.folder, 'node0') };
    // The nodes of the restored VM: one in a file with old contents, one in private memory.
    writeFileSync(shared.file, Buffer.alloc(64 << 20, 0xa5));
    const extraArgs = [
      ...['-object', `memory-backend-file,id=node0,size=64M,mem-path=${shared.file},share=on`],
      ...['-object', 'memory-backend-ram,id=node1,size=64M'],
      ...['-numa', 'node,memdev=node0', '-numa', 'node,memdev=node1'],
    ];
    const options = { ...memory, memory: 'anonymous', memoryMiB: 128, extraArgs, incoming: true } as const;
    await using restored = await startVm(options);
    assert.equal((await restore({ file, vm: restored.qmpPath })).method, 'shared');
    await assertAsSaved(restored, 0x10_0000, 128 << 20);
  });
});

describe(
  'restore of a guest of aarch64, whose flash is not shared',
  needs({ qemu: '10.0', architecture: 'aarch64', guest: 'tiny' }),
  () => {
    test('leaves nothing stale in memory that was used before (guests 3)', async () => {
      const { vm, file, guest } = await saved({ architecture: 'aarch64', memory: 'shared-file' });
      await using _ = vm;
      for (const method of ['auto', 'stream'] as const) {
        await using restored = await startVm({ ...guest.options, incoming: true });
        soil(restored);
        const result = await restore({ file, vm: restored.qmpPath, method, cont: true, checkMemory: 'all' });
        assert.equal(result.method, method === 'auto' ? 'shared' : 'stream');
        await assertGoesOn(restored, guest);
      }
    });
  },
);

describe('restore of QEMU 7.2 into shared memory', needs({ qemu: '7.2', guest: 'tiny' }), () => {
  test('goes on, although that QEMU cannot read the file', async () => {
    const { vm, file, guest } = await saved({ qemu: '7.2', machine: 'pc', memory: 'shared-file' });
    await using _ = vm;
    await using restored = await startVm({ ...guest.options, qemu: '7.2', incoming: true });
    const result = await restore({ file, vm: restored.qmpPath, cont: true, checkMemory: 'all' });
    assert.equal(result.method, 'shared');
    assert.ok(
      (result.checkedPages ?? 0) >= 32 * 256,
      'the memory was compared, although QEMU does not say where it is',
    );
    await assertGoesOn(restored, guest);
  });
});
