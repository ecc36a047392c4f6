/** The memory of a VM is held against the file when it is loaded, before the guest runs: damage that nobody foresaw is an error. */

import assert from 'node:assert/strict';
import { closeSync, mkdirSync, openSync, readFileSync, rmSync, writeSync } from 'node:fs';
import path from 'node:path';
import { after, before, describe, type TestContext, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { isQemuProcess } from '../../src/guest/qemu/qemu-process.js';
import { QemuVm } from '../../src/guest/qemu/qemu-vm.js';
import { MEMORY_CHECKS } from '../../src/snapshot/checks/memory-after-load.js';
import { LOAD_METHODS, restore } from '../../src/snapshot/restore/restore.js';
import { fork } from '../../src/snapshot/resume/fork.js';
import { resume } from '../../src/snapshot/resume/resume.js';
import { save } from '../../src/snapshot/save/save.js';
import { needs } from '../support/environment.js';
import { failsWith } from '../support/fails-with.js';
import { startVm, type TestVm, type VmOptions } from '../support/qemu.js';
import { commandIn, killProcessesWith, processesWith } from '../support/resumed-guest.js';
import { assertGoesOn, savedGuest } from '../support/save-expectations.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const MIB = 2 ** 20;

/** A generation id, and as it lies in the guest's memory. */
const GENERATION = {
  text: '324e6eaf-d1d1-4bf6-bf41-b9bb6c91fb87',
  bytes: Buffer.from('af6e4e32d1d1f64bbf41b9bb6c91fb87', 'hex'),
};

/** Writes into the memory of a waiting QEMU after everything was looked at: as a QEMU would that leaves or writes what it should not. */
function damageBeforeLoad(t: TestContext, folder: string, at: number, bytes: Buffer): void {
  const migrateIncoming = QemuVm.prototype.migrateIncoming;
  t.mock.method(
    QemuVm.prototype,
    'migrateIncoming',
    async function (this: QemuVm, ...args: Parameters<typeof migrateIncoming>) {
      const block = (await this.ramBlocks()).find(({ idstr }) => idstr === 'pc.ram');
      // A QEMU that was started by `resume` has its monitor from there.
      const pid = this.peerPid() ?? processesWith(folder).find(isQemuProcess);
      const memory = openSync(`/proc/${pid}/mem`, 'r+');
      writeSync(memory, bytes, 0, bytes.length, Number((block?.hostAddress ?? 0n) + BigInt(at)));
      closeSync(memory);
      return await migrateIncoming.apply(this, args);
    },
  );
}

describe('memory that is not what the file says', needs({ qemu: '10.0' }), () => {
  const empty: VmOptions = { guest: 'none', memory: 'shared-file', memoryMiB: 64 };
  let folder: string;
  let file: string;
  let vm: TestVm;
  before(async () => {
    folder = temporaryFolder('check');
    file = path.join(folder, 'vm.mapram');
    vm = await startVm(empty);
    await save({ vm: vm.qmpPath, file });
    await vm[Symbol.asyncDispose]();
  });
  after(() => {
    killProcessesWith(folder);
    rmSync(folder, { recursive: true, force: true });
  });

  test('is found where QEMU leaves old pages, before the guest runs (guests 3)', async (t) => {
    damageBeforeLoad(t, folder, 16 * MIB, Buffer.alloc(8 * MIB, 'stale'));
    for (const checkMemory of MEMORY_CHECKS) {
      await using restored = await startVm({ ...empty, incoming: true });
      const restoring = restore({ file, vm: restored.qmpPath, method: 'native', checkMemory });
      if (checkMemory === 'off') {
        await restoring;
        continue;
      }
      await assert.rejects(
        restoring,
        failsWith('VM', /not what the file says in .*the first at pc\.ram \+ 0x1/s),
      );
      assert.equal(await restored.status(), 'paused');
    }
  });

  test('is found where QEMU writes into the mapping after it was looked at (guests 1)', async (t) => {
    damageBeforeLoad(t, folder, 32 * MIB, Buffer.alloc(4096, 'device tree'));
    for (const checkMemory of MEMORY_CHECKS) {
      const home = path.join(folder, checkMemory);
      mkdirSync(home);
      const options = { file, command: commandIn(vm, home), checkMemory };
      const qmp = path.join(home, 'own.qmp');
      if (checkMemory === 'off') {
        await using resumed = await resume({ ...options, qmp });
        assert.equal(resumed.facts.checkedPages, undefined);
        continue;
      }
      const found = failsWith('VM', /in 1 of \d+ pages.*the first at pc\.ram \+ 0x2000000/);
      await assert.rejects(resume({ ...options, qmp }), found);
      await assert.rejects(fork({ ...options, count: 1, dir: path.join(home, 'clones') }), found);
      assert.deepEqual(processesWith(home), []);
    }
  });

  test('is not what a new generation id changes', async () => {
    const extraArgs = ['-device', `vmgenid,guid=${GENERATION.text}`];
    await using source = await startVm({ ...empty, extraArgs });
    const memory = source.memoryFiles[0] as string;
    // The firmware makes room for it.
    while (!readFileSync(memory).includes(GENERATION.bytes)) await delay(20);
    const renewed = path.join(folder, 'renewed.mapram');
    await save({ vm: source.qmpPath, file: renewed, afterwards: 'stop' });
    const home = path.join(folder, 'renewed');
    mkdirSync(home);
    await using resumed = await resume({
      file: renewed,
      command: commandIn(source, home),
      qmp: path.join(home, 'own.qmp'),
      checkMemory: 'all',
    });
    assert.equal(resumed.facts.runState, 'running');
    assert.ok((resumed.facts.checkedPages ?? 0) > 0, 'QEMU has written it into the memory');
  });
});

describe('memory that is what the file says', needs({ qemu: '10.0', guest: 'tiny' }), () => {
  test('is compared, and the guest goes on, by each method', async () => {
    await using source = await startVm({ memory: 'shared-file' });
    await source.console.waitForCounterAbove(10);
    const file = path.join(source.folder, 'image');
    await save({ vm: source.qmpPath, file, afterwards: 'stop' });
    const guest = savedGuest(source);
    for (const method of LOAD_METHODS) {
      await using restored = await startVm({ ...guest.options, incoming: true });
      const result = await restore({ file, vm: restored.qmpPath, method, checkMemory: 'all' });
      assert.equal(result.runState, 'running');
      assert.ok((result.checkedPages ?? 0) >= 32 * 256, `${result.checkedPages} pages`);
      await assertGoesOn(restored, guest);
    }
  });

  test('does not start a guest whose QEMU was started with -S', async () => {
    await using source = await startVm();
    await source.console.waitForCounterAbove(10);
    const file = path.join(source.folder, 'image');
    await save({ vm: source.qmpPath, file, afterwards: 'stop' });
    await using restored = await startVm({ incoming: true, extraArgs: ['-S'] });
    const result = await restore({ file, vm: restored.qmpPath });
    assert.equal(result.runState, 'paused');
    assert.ok((result.checkedPages ?? 0) > 0, `checked pages: ${result.checkedPages}`);
  });
});
