/** Memory that QEMU has written to before it is given a state: what the guest finds there is what was saved, all the same. */

import assert from 'node:assert/strict';
import { closeSync, mkdirSync, openSync, rmSync, writeSync } from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { MappedRamImage } from '../../src/mapped-ram/image.js';
import { fork } from '../../src/snapshot/resume/fork.js';
import { resume } from '../../src/snapshot/resume/resume.js';
import { save } from '../../src/snapshot/save/save.js';
import { needs } from '../support/environment.js';
import { startVm, type TestVm } from '../support/qemu.js';
import { assertMemoryIsThatOf, commandIn, killProcessesWith } from '../support/resumed-guest.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const PAGE = 4096;
/** Where the loader writes whenever the machine is reset, which it is before a load too: as pseries does its device tree. */
const KEPT_AT = 0x20_0000;
const CLEARED_AT = 0x30_0000;
const loader = (address: number) => `loader,addr=${address},data=0x4141414141414141,data-len=8`;

describe('memory that QEMU writes at reset', needs({ qemu: '10.0' }), () => {
  let folder: string;
  let file: string;
  let vm: TestVm;

  before(async () => {
    folder = temporaryFolder('reset');
    file = path.join(folder, 'vm.mapram');
    vm = await startVm({
      guest: 'none',
      memory: 'shared-file',
      paused: true,
      extraArgs: ['-device', loader(KEPT_AT), '-device', loader(CLEARED_AT)],
    });
    const memory = openSync(vm.memoryFiles[0] as string, 'r+');
    // As a guest would have: one page has other contents by now, the other is zero again.
    writeSync(memory, Buffer.alloc(PAGE, 'guest'), 0, PAGE, KEPT_AT);
    writeSync(memory, Buffer.alloc(PAGE), 0, PAGE, CLEARED_AT);
    closeSync(memory);
    await save({ vm: vm.qmpPath, file });
    await vm[Symbol.asyncDispose]();
  });
  after(() => {
    killProcessesWith(folder);
    rmSync(folder, { recursive: true, force: true });
  });

  test('is what the file says after a resume (guests 1)', async () => {
    await using image = await MappedRamImage.open(file);
    const block = image.block('pc.ram');
    assert.ok(block, 'there is no block');
    assert.deepEqual(
      [block.bitmap.test(KEPT_AT / PAGE), block.bitmap.test(CLEARED_AT / PAGE)],
      [true, false],
    );
    const home = path.join(folder, 'resumed');
    mkdirSync(home);
    const command = commandIn(vm, home);
    await using resumed = await resume({ file, command, paused: true, qmp: path.join(home, 'own.qmp') });
    await assertMemoryIsThatOf(file, resumed.facts.qmp);
  });

  test('is what the file says in each clone (guests 1)', async () => {
    const home = path.join(folder, 'clones');
    mkdirSync(home);
    await using clones = await fork({
      file,
      count: 2,
      command: commandIn(vm, home),
      paused: true,
      dir: home,
    });
    for (const { facts } of clones.vms) await assertMemoryIsThatOf(file, facts.qmp);
  });
});
