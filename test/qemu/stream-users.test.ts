/** QEMU as a user of its own, as libvirt runs it: that user may not enter what belongs to mapram's. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { MappedRamImage } from '../../src/mapped-ram/image.js';
import { restore } from '../../src/snapshot/restore/restore.js';
import { save } from '../../src/snapshot/save/save.js';
import { needs, type QemuName, repositoryRoot } from '../support/environment.js';
import { startVm, type TestVm } from '../support/qemu.js';
import { temporaryFolder } from '../support/temporary-folder.js';

/** `nobody`, and a user who is nobody else. */
const QEMU_USER = 65534;
const OTHER_USER = 54321;

const cli = path.join(repositoryRoot, 'build', 'src', 'cli', 'main.js');
const isRoot = process.getuid?.() === 0;

function startForeignVm(qemu: QemuName, incoming = false): Promise<TestVm> {
  const user = `${QEMU_USER}:${QEMU_USER}`;
  const extraArgs = qemu === '7.2' ? ['-runas', user] : ['-run-with', `user=${user}`];
  return startVm({ qemu, machine: 'pc', incoming, extraArgs });
}

/** That a user may speak to the monitor is up to who runs the VM. */
function letOthersIn(vm: TestVm): void {
  chmodSync(vm.folder, 0o755);
  chmodSync(vm.qmpPath, 0o666);
}

const qemus: QemuName[] = ['10.0', '7.2'];
for (const qemu of qemus) {
  describe(
    `QEMU ${qemu} as another user`,
    isRoot ? needs({ qemu, guest: 'tiny' }) : { skip: 'needs root' },
    () => {
      test('streams to root, by a descriptor or through channels', async (t) => {
        await using vm = await startForeignVm(qemu);
        for (const [name, way] of Object.entries({ plain: { multifd: false }, multifd: { channels: 2 } })) {
          await t.test(name, async () => {
            const file = path.join(vm.folder, 'image');
            await save({ vm: vm.qmpPath, file, method: 'stream', force: true, ...way });
            await using image = await MappedRamImage.open(file);
            assert.equal(image.complete, true);
            await vm.console.waitForCounterAbove();
            await using loaded = await startForeignVm(qemu, true);
            await restore({ vm: loaded.qmpPath, file, method: 'stream', ...way });
            await loaded.console.waitForCounterAbove(-1);
            assert.equal(await loaded.console.checksum(), vm.console.bootChecksum);
          });
        }
      });

      test('streams to a third user by a descriptor; channels are refused with a way out', async (t) => {
        if (!readableForOthers()) return t.skip('this repository is for its owner alone');
        await using vm = await startForeignVm(qemu);
        const folder = temporaryFolder('user');
        chownSync(folder, OTHER_USER, OTHER_USER);
        letOthersIn(vm);
        mkdirSync(path.join(folder, 'run'), { mode: 0o700 });
        chownSync(path.join(folder, 'run'), OTHER_USER, OTHER_USER);
        const file = path.join(folder, 'image');
        const runAsOther = (...args: string[]) =>
          spawnSync(
            'setpriv',
            [
              ...[`--reuid=${OTHER_USER}`, `--regid=${OTHER_USER}`, '--clear-groups'],
              ...[process.execPath, cli, ...args],
            ],
            {
              encoding: 'utf8',
              env: { ...process.env, XDG_RUNTIME_DIR: path.join(folder, 'run'), HOME: folder },
            },
          );

        const save = ['save', vm.qmpPath, file, '--method', 'stream'];
        const refused = runAsOther(...save, '--channels', '2');
        assert.equal(refused.status, 1);
        assert.match(refused.stderr, /QEMU runs as user 65534, who may not enter .*save with --no-multifd/);
        await vm.console.waitForCounterAbove();

        const saved = runAsOther(...save);
        assert.equal(
          saved.stderr
            .split('\n')
            .filter((line) => line.startsWith('mapram: '))
            .join('\n'),
          '',
        );
        assert.equal(saved.status, 0);
        assert.equal(statSync(file).uid, OTHER_USER);
        await vm.console.waitForCounterAbove();

        await using loaded = await startForeignVm(qemu, true);
        letOthersIn(loaded);
        const tooMany = runAsOther('restore', file, loaded.qmpPath, '--method', 'stream', '--channels', '2');
        assert.equal(tooMany.status, 1);
        assert.match(tooMany.stderr, /QEMU runs as user 65534, .*restore with --no-multifd/);
        const restored = runAsOther('restore', file, loaded.qmpPath, '--method', 'stream');
        assert.equal(restored.status, 0, restored.stderr);
        await loaded.console.waitForCounterAbove(-1);
        assert.equal(await loaded.console.checksum(), vm.console.bootChecksum);
      });
    },
  );
}

/** The command line has to be readable for whom it is run as. */
function readableForOthers(): boolean {
  for (let place = cli; place !== '/'; place = path.dirname(place)) {
    if ((statSync(place).mode & 0o005) === 0) return false;
  }
  return true;
}
