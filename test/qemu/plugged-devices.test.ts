/** Devices that were plugged into a running QEMU come back with it. */

import assert from 'node:assert/strict';
import { mkdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { QemuVm } from '../../src/guest/qemu/qemu-vm.js';
import { restore } from '../../src/snapshot/restore/restore.js';
import { resume } from '../../src/snapshot/resume/resume.js';
import { save } from '../../src/snapshot/save/save.js';
import { needs } from '../support/environment.js';
import { failsWith } from '../support/fails-with.js';
import { startVm, type VmOptions } from '../support/qemu.js';
import { killProcessesWith } from '../support/resumed-guest.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const options: VmOptions = {
  guest: 'none',
  machine: 'pc',
  extraArgs: ['-m', '64M,maxmem=1G,slots=2', '-smp', '1,maxcpus=2'],
};

describe('devices plugged in after the start', needs({ qemu: '10.0' }), () => {
  let folder: string;
  let file: string;
  /** Of the sockets that the recorded command line names. */
  let sockets: string;
  const warnings: string[] = [];

  before(async () => {
    folder = temporaryFolder('plugged');
    file = path.join(folder, 'vm.mapram');
    await using vm = await startVm(options);
    await vm.qmp.execute('object-add', { 'qom-type': 'memory-backend-ram', id: 'more', size: 128 << 20 });
    await vm.qmp.execute('device_add', { driver: 'pc-dimm', id: 'module', memdev: 'more' });
    const cpu = { driver: 'max-x86_64-cpu', id: 'second', 'socket-id': 0, 'core-id': 1, 'thread-id': 0 };
    await vm.qmp.execute('device_add', cpu);
    await vm.qmp.execute('device_add', { driver: 'virtio-rng-pci', id: 'random', addr: '0x9' });
    await save({ vm: vm.qmpPath, file, onWarning: (warning) => warnings.push(warning) });
    sockets = vm.folder;
  });
  after(() => {
    killProcessesWith(folder);
    for (const made of [folder, sockets]) rmSync(made, { recursive: true, force: true });
  });

  test('are named when the VM is saved (guests 3.2)', () => {
    const [warning = ''] = warnings;
    assert.match(warning, /plugged in after the VM was started/);
    for (const part of [
      /-object memory-backend-ram,id=more,size=134217728/,
      /-device pc-dimm,id=module,memdev=more,slot=0/,
      /-device max-x86_64-cpu,id=second,.*core-id=1/,
      /-device virtio-rng-pci,id=random,bus=pci\.0,addr=9\.0/,
    ])
      assert.match(warning, part);
  });

  test('are added to the recorded command line when it is resumed (guests 3.2)', async () => {
    mkdirSync(sockets);
    await using resumed = await resume({ file, qmp: path.join(sockets, 'own.qmp') });
    assert.equal(resumed.facts.runState, 'running');
    await using vm = await QemuVm.connect(resumed.qmp);
    assert.equal((await vm.client.execute('query-cpus-fast')).length, 2);
    assert.equal((await vm.ramBlocks()).find(({ idstr }) => idstr === 'more')?.usedLength, 128 << 20);
    const present = await vm.client.execute('qom-list', { path: '/machine/peripheral' });
    assert.ok(present.some(({ name }) => name === 'random'));
  });

  test('are named where a waiting QEMU lacks them (guests 3.2)', async () => {
    await using waiting = await startVm({ ...options, incoming: true });
    const said: string[] = [];
    const onWarning = (warning: string) => said.push(warning);
    await assert.rejects(
      restore({ file, vm: waiting.qmpPath, onWarning }),
      failsWith('VM', /RAM block more/),
    );
    assert.match(said.join('\n'), /the waiting QEMU needs .*-object memory-backend-ram,id=more/);
  });
});
