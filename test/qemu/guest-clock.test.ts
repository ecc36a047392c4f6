/** The way to the guest agent of a real QEMU; what an agent answers is in test/guest/qemu/guest-agent.test.ts. */

import assert from 'node:assert/strict';
import { mkdirSync, rmSync } from 'node:fs';
import { createConnection } from 'node:net';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { agentAddress } from '../../src/guest/qemu/guest-agent.js';
import { QemuVm } from '../../src/guest/qemu/qemu-vm.js';
import { restore } from '../../src/snapshot/restore/restore.js';
import { resume } from '../../src/snapshot/resume/resume.js';
import { save } from '../../src/snapshot/save/save.js';
import { needs } from '../support/environment.js';
import { failsWith } from '../support/fails-with.js';
import { startVm, type TestVm } from '../support/qemu.js';
import { commandIn, killProcessesWith } from '../support/resumed-guest.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const PORT = ['-device', 'virtserialport,chardev=agent,name=org.qemu.guest_agent.0'];
const agentOf = (folder: string) => path.join(folder, 'agent.sock');
const channel = (folder: string) => [
  ...['-device', 'virtio-serial'],
  ...['-chardev', `socket,id=agent,path=${agentOf(folder)},server=on,wait=off`],
  ...PORT,
];

describe('the clock of a guest', needs({ qemu: '10.0' }), () => {
  let folder: string;
  let file: string;
  let vm: TestVm;
  before(async () => {
    folder = temporaryFolder('clock');
    file = path.join(folder, 'vm.mapram');
    vm = await startVm({ guest: 'none', extraArgs: channel(folder) });
    await save({ vm: vm.qmpPath, file });
  });
  after(async () => {
    await vm[Symbol.asyncDispose]();
    killProcessesWith(folder);
    rmSync(folder, { recursive: true, force: true });
  });

  test('is reached through the socket of its agent, unless another program has that', async () => {
    await using connected = await QemuVm.connect(vm.qmpPath);
    assert.deepEqual(await agentAddress(connected, vm.pid), { path: agentOf(folder) });
    const other = createConnection(agentOf(folder));
    try {
      await new Promise((resolve) => other.once('connect', resolve));
      // QEMU takes the connection when its main loop comes to it.
      for (;;) {
        const chardevs = await connected.client.execute('query-chardev');
        if (chardevs.some(({ label, filename }) => label === 'agent' && !filename.startsWith('disc'))) break;
      }
      await assert.rejects(agentAddress(connected, vm.pid), failsWith('VM', /another program is connected/));
    } finally {
      other.destroy();
    }
  });

  test('cannot be set without a port for the agent, which is said before anything is loaded', async () => {
    await using restored = await startVm({ guest: 'none', incoming: true });
    await assert.rejects(
      restore({ file, vm: restored.qmpPath, setClock: true }),
      failsWith('VM', /no port org\.qemu\.guest_agent\.0/),
    );
    assert.equal(await restored.status(), 'inmigrate');
  });

  test('is not set in a guest that stays paused; the result says how old it is', async () => {
    const home = path.join(folder, 'home');
    mkdirSync(home);
    const warnings: string[] = [];
    await using resumed = await resume({
      file,
      command: commandIn(vm, home).map((word) => word.replace(agentOf(folder), agentOf(home))),
      qmp: path.join(home, 'own.qmp'),
      paused: true,
      setClock: true,
      onWarning: (warning) => warnings.push(warning),
    });
    assert.equal(resumed.facts.clockSet, false);
    assert.match(warnings.join('\n'), /clock was not set: the guest is paused/);
    const age = Date.now() - Date.parse(resumed.facts.savedAt ?? '');
    assert.ok(age >= 0 && age < 3_600_000, `${age} ms`);
  });
});
