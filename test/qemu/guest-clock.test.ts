/** Clocks of guests, and the way to the guest agent; what agents may answer is in test/guest/qemu/guest-agent.test.ts. */

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
import { guestAgent, kernelFile, needs, repositoryRoot, virtioNetModules } from '../support/environment.js';
import { failsWith } from '../support/fails-with.js';
import { linuxInitramfs, programFiles } from '../support/guest-images.js';
import { typeInGuest } from '../support/guest-shell.js';
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

describe(
  'the clock of a Linux guest with its agent',
  needs({ qemu: '10.0', guest: 'linux', virtioNet: true, agent: true }),
  () => {
    test('goes on from the save, and is set to the time of the host where that is asked for', async () => {
      const folder = temporaryFolder('agent');
      const { program, module } = guestAgent();
      const init = path.join(repositoryRoot, 'examples', 'sandbox-pool', 'guest-init.sh');
      const modules = [...virtioNetModules(), module];
      const initrd = linuxInitramfs(init, modules, programFiles(program, '/sbin/qemu-ga'));
      const append = 'console=ttyS0 quiet loglevel=0 panic=-1 no_timer_check';
      await using vm = await startVm({
        guest: 'none',
        memoryMiB: 256,
        paused: true,
        extraArgs: [...channel(folder), '-kernel', kernelFile(), '-initrd', initrd, '-append', append],
      });
      const serial = (home: string) => path.join(home, 'serial.sock');
      await vm.cont();
      await vm.console.waitForLine('ready');
      vm.console.close();
      const wrong = 1_000_000_000;
      await typeInGuest(
        serial(vm.folder),
        [
          ...modules.map((file) => `insmod /modules/${path.basename(file)}`),
          // Where the agent looks for it.
          'ln -s /bin/hwclock /sbin/hwclock',
          `/sbin/qemu-ga -d -m virtio-serial -p /dev/vport0p1 -t /tmp -f /tmp/pid`,
          `date -s @${wrong}`,
        ].join(' && '),
      );
      const file = path.join(folder, 'vm.mapram');
      await save({ vm: vm.qmpPath, file, afterwards: 'stop' });
      const clockOf = async (home: string) => Number(await typeInGuest(serial(home), 'date +%s'));
      for (const setClock of [false, true]) {
        const home = path.join(folder, String(setClock));
        mkdirSync(home);
        const command = commandIn(vm, home).map((word) => word.replace(agentOf(folder), agentOf(home)));
        const warnings: string[] = [];
        await using resumed = await resume({
          file,
          command,
          qmp: path.join(home, 'own.qmp'),
          setClock,
          onWarning: (warning) => warnings.push(warning),
        });
        assert.equal(resumed.facts.clockSet, setClock ? true : undefined, warnings.join());
        const behind = Date.now() / 1000 - (await clockOf(home));
        if (setClock) assert.ok(Math.abs(behind) < 300, `${behind} s`);
        else assert.ok(behind > 300, `${behind} s`);
      }
      killProcessesWith(folder);
      rmSync(folder, { recursive: true, force: true });
    });
  },
);
