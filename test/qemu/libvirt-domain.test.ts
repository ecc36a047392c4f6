/** VMs whose monitor a real libvirt holds: mapram reaches them through it. */
import assert from 'node:assert/strict';
import { copyFileSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { checkImage } from '../../src/mapped-ram/check-image.js';
import { MappedRamImage } from '../../src/mapped-ram/image.js';
import { QmpClient } from '../../src/qmp/qmp-client.js';
import { partPathOf } from '../../src/snapshot/files/target-file.js';
import { save } from '../../src/snapshot/save/save.js';
import { cliResult, startCli } from '../support/cli.js';
import { needs, qemuProgram } from '../support/environment.js';
import { failsWith } from '../support/fails-with.js';
import { tinyGuest } from '../support/guest-images.js';
import { Libvirtd } from '../support/libvirtd.js';
import { assertFileHolds, processesWith } from '../support/resumed-guest.js';
import { temporaryFolder } from '../support/temporary-folder.js';

describe(
  'a domain of libvirt',
  needs({ qemu: ['10.0', '7.2'], guest: 'tiny', tools: ['virsh', 'libvirtd'] }),
  () => {
    let libvirt: Libvirtd;
    const folder = temporaryFolder('domain');
    const kernel = () => path.join(libvirt.folder, 'kernel');

    before(async () => {
      libvirt = await Libvirtd.start();
      copyFileSync(tinyGuest(), kernel());
    });
    after(() => libvirt[Symbol.asyncDispose]());

    const tiny = (name: string) => ({ name, kernel: kernel(), append: 'fill=16' });

    async function assertHoldsMemory(file: string, domain: string): Promise<void> {
      const dump = async (length: number) => {
        const memory = path.join(libvirt.folder, 'runtime_dir', `${domain}.memory`);
        await libvirt.virsh('qemu-monitor-command', domain, '--hmp', `pmemsave 0 ${length} "${memory}"`);
        const bytes = readFileSync(memory);
        rmSync(memory);
        return bytes;
      };
      await assertFileHolds(file, dump);
      await using image = await MappedRamImage.open(file);
      assert.deepEqual(checkImage(image), []);
    }

    for (const { method, shared } of [
      { method: 'shared', shared: true },
      { method: 'native', shared: false },
      { method: 'stream', shared: false },
    ] as const) {
      test(`is saved by ${method} and stays with libvirt`, async () => {
        await libvirt.create({ ...tiny(method), shared });
        const file = path.join(folder, method);
        const vm = libvirt.address(method);
        const result = await save({ vm, file, afterwards: 'stop', ...(shared ? {} : { method }) });
        assert.equal(result.method, method);
        assert.match(await libvirt.virsh('domstate', method), /^paused/);
        await assertHoldsMemory(file, method);
        await libvirt.virsh('resume', method);
        await save({ vm, file, force: true });
        assert.equal(await libvirt.virsh('domstate', method), 'running');
        await libvirt.virsh('destroy', method);
      });
    }

    test('of QEMU 7.2 is saved by a stream, by the command', async () => {
      const { program, args } = qemuProgram('7.2');
      const emulator = path.join(libvirt.folder, 'emulator');
      writeFileSync(emulator, `#!/bin/sh\nexec ${program} ${args.join(' ')} "$@"\n`, { mode: 0o755 });
      await libvirt.create({ ...tiny('old'), emulator });
      const file = path.join(folder, 'old');
      const saved = cliResult(
        await startCli(['save', '--json', '--then', 'stop', libvirt.address('old'), file]).finished,
      );
      assert.equal(saved.method, 'stream');
      await assertHoldsMemory(file, 'old');
      await libvirt.virsh('destroy', 'old');
    });

    test('runs on when the mapram that saves it is killed', async () => {
      await libvirt.create(tiny('killed'));
      const file = path.join(folder, 'killed');
      const { pid, finished } = startCli(['save', '--method', 'stream', libvirt.address('killed'), file]);
      while ((await libvirt.virsh('domstate', 'killed')) === 'running') await sleep(5);
      process.kill(pid, 'SIGKILL');
      await finished;
      while ((await libvirt.virsh('domstate', 'killed')) !== 'running' || existsSync(partPathOf(file)))
        await sleep(50);
      await libvirt.virsh('destroy', 'killed');
    });

    test('that ends takes its connection along, and leaves no virsh', async () => {
      await libvirt.create(tiny('ends'));
      const client = await QmpClient.connect(libvirt.address('ends'));
      assert.equal(client.address, libvirt.address(await libvirt.virsh('domuuid', 'ends')));
      assert.match(readFileSync(`/proc/${client.peer?.pid}/cmdline`, 'utf8'), /guest=ends/);
      const stopped = client.events({ names: ['STOP'] }).next();
      await client.execute('stop');
      assert.equal((await stopped).value?.event, 'STOP');
      await assert.rejects(client.execute('stpo'), failsWith('QMP', /stpo/));
      await libvirt.virsh('destroy', 'ends');
      await assert.rejects(client.execute('cont'), failsWith('MONITOR', /domain ends has ended/));
      assert.ok(client.closed);
      await client.close();
      while (processesWith('qemu-monitor-event').length > 0) await sleep(10);
    });

    test('that is not there is refused with what to look at', async () => {
      const file = path.join(folder, 'none');
      await assert.rejects(
        save({ vm: libvirt.address('none'), file }),
        failsWith('MONITOR', /libvirt:.*#none: no domain of that name is running/),
      );
      assert.ok(!existsSync(file));
    });
  },
);
