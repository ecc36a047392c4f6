/** VMs with devices that QEMU does not migrate. */

import assert from 'node:assert/strict';
import { existsSync, rmSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { openSavedVm } from '../../src/analysis/open-saved-vm.js';
import { save } from '../../src/snapshot/save/save.js';
import { needs, type QemuName } from '../support/environment.js';
import { failsWith } from '../support/fails-with.js';
import { saveStream } from '../support/native-migration.js';
import { startVm } from '../support/qemu.js';
import { temporaryFolder } from '../support/temporary-folder.js';

for (const qemu of ['10.0', '7.2'] satisfies QemuName[]) {
  describe(`a VM of QEMU ${qemu} that cannot be migrated`, needs({ qemu, guest: 'tiny' }), () => {
    test('is refused with all reasons and what helps, and is not stopped for it (R13)', async () => {
      const folder = temporaryFolder('blocked');
      try {
        await using vm = await startVm({
          qemu,
          extraArgs: [
            ...['-drive', 'if=none,id=n,driver=null-co,size=1M', '-device', 'nvme,serial=1,drive=n'],
            ...['-drive', `file=fat:rw:${folder},format=raw,if=none,id=v`, '-device', 'virtio-blk,drive=v'],
          ],
        });
        const file = path.join(vm.folder, 'vm.mapram');
        for (const method of ['auto', 'stream'] as const) {
          await assert.rejects(
            save({ vm: vm.qmpPath, file, method }),
            failsWith('VM', /cannot migrate it: (?=.*nvme.*virtio-blk)(?=.*vvfat \(rw\).*without rw)/),
          );
        }
        assert.equal(existsSync(file), false);
        assert.deepEqual(
          vm.qmp.events.filter(({ event }) => event === 'STOP'),
          [],
        );
        await vm.console.waitForCounterAbove(vm.console.counter);
      } finally {
        rmSync(folder, { recursive: true });
      }
    });
  });
}

describe('a VM of a machine type older than 2.4', needs({ qemu: '7.2' }), () => {
  test('is refused before its guest is paused, and its stream is read', async () => {
    await using vm = await startVm({ qemu: '7.2', machine: 'pc-i440fx-2.3', guest: 'none' });
    const file = path.join(vm.folder, 'vm');
    await assert.rejects(
      save({ vm: vm.qmpPath, file }),
      failsWith('UNSUPPORTED', /QEMU sends no configuration for a machine as old as pc-i440fx-2\.3/),
    );
    assert.equal(await vm.status(), 'running');
    assert.ok(!vm.qmp.events.some(({ event }) => event === 'STOP'), 'the VM was stopped');
    await saveStream(vm, file);
    await using saved = await openSavedVm(file);
    assert.deepEqual([saved.complete, saved.problems], [true, []]);
    assert.ok(
      saved.devices.some(({ idstr, description }) => idstr === 'cpu' && description !== undefined),
      'there is no CPU that is described',
    );
  });
});
