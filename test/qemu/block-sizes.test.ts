/** Blocks of ROM and flash whose sizes differ between the file and the VM. */
import assert from 'node:assert/strict';
import { mkdirSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { restore } from '../../src/snapshot/restore/restore.js';
import { resume } from '../../src/snapshot/resume/resume.js';
import { save } from '../../src/snapshot/save/save.js';
import { needs } from '../support/environment.js';
import { failsWith } from '../support/fails-with.js';
import { startVm, type TestVm } from '../support/qemu.js';
import { commandIn } from '../support/resumed-guest.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const folder = temporaryFolder('block-sizes');
const ROM = '0000:00:01.0/virtio-net-pci.rom';
const networkWith = (romsize: string) => ['-device', `virtio-net-pci,addr=01.0,romsize=${romsize}`];

function flash(mib: number): string[] {
  const file = path.join(folder, `flash-${mib}`);
  writeFileSync(file, '');
  truncateSync(file, mib * 2 ** 20);
  return ['-drive', `if=pflash,format=raw,file=${file}`];
}

async function saved(vm: TestVm): Promise<string> {
  const file = path.join(vm.folder, 'saved');
  await save({ vm: vm.qmpPath, file, method: 'native', afterwards: 'stop' });
  return file;
}

const machine = { guest: 'none', paused: true } as const;

describe('a block of another size', needs({ qemu: '10.0' }), () => {
  test('of a ROM names romsize= of the device, before anything is loaded (R01)', async () => {
    await using vm = await startVm({ ...machine, extraArgs: networkWith('0x40000') });
    const file = await saved(vm);
    await using other = await startVm({ ...machine, incoming: true, extraArgs: networkWith('0x80000') });
    const difference = `RAM block ${ROM} has 262144 bytes in the file and 524288 in the VM; give that device romsize=0x40000, or the ROM of the saved VM with romfile=`;
    await assert.rejects(restore({ file, vm: other.qmpPath }), (error: Error) => {
      assert.equal(error.message, `loading ${file} into the VM at ${other.qmpPath}: ${difference}`);
      return true;
    });
    assert.equal(await other.status(), 'inmigrate');
    await using same = await startVm({ ...machine, incoming: true, extraArgs: networkWith('0x40000') });
    await restore({ file, vm: same.qmpPath });
    assert.notEqual(await same.status(), 'inmigrate');
    // Resuming has no VM yet that could have an address.
    const sockets = path.join(vm.folder, 'resumed');
    mkdirSync(sockets);
    const command = commandIn(vm, sockets).map((word) => word.replace('romsize=0x40000', 'romsize=0x80000'));
    await assert.rejects(resume({ file, command }), (error: Error) => {
      assert.equal(error.message, `resuming ${file}: ${difference}`);
      return true;
    });
  });

  test('of a ROM that the VM lacks names the ROM of the device (R01)', async () => {
    await using vm = await startVm({ ...machine, extraArgs: networkWith('0x40000') });
    const file = await saved(vm);
    const extraArgs = ['-device', 'virtio-net-pci,addr=01.0,romfile='];
    await using other = await startVm({ ...machine, incoming: true, extraArgs });
    await assert.rejects(
      restore({ file, vm: other.qmpPath }),
      failsWith('VM', /virtio-net-pci\.rom, which the VM lacks; .*ROM of that device \(without romfile=/),
    );
  });

  test('of UEFI flash names the UEFI images (R04)', async () => {
    await using small = await startVm({ ...machine, extraArgs: flash(2) });
    const file = await saved(small);
    await using large = await startVm({ ...machine, incoming: true, extraArgs: flash(4) });
    await assert.rejects(
      restore({ file, vm: large.qmpPath }),
      failsWith(
        'VM',
        /system\.flash0 has 2097152 bytes in the file and 4194304 in the VM; start QEMU with UEFI images of the same size$/,
      ),
    );
  });
});
