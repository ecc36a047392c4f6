/** A few of all the places at which a system call can fail; `npm run soak -- walk` takes them all. */

import assert from 'node:assert/strict';
import { mkdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { save } from '../../src/snapshot/save/save.js';
import { needs } from '../support/environment.js';
import { startVm, type TestVm } from '../support/qemu.js';
import { temporaryFolder } from '../support/temporary-folder.js';
import { walkRestores, walkResumes, walkSaves } from '../trust/vm-fault-walk.js';

describe('system calls that fail', needs({ qemu: '10.0', guest: 'tiny' }), () => {
  let folder: string;
  let vm: TestVm;
  const file = () => path.join(folder, 'sound');
  before(async () => {
    folder = temporaryFolder('walk');
    vm = await startVm({ memory: 'shared-file' });
    await save({ vm: vm.qmpPath, file: file(), method: 'shared' });
  });
  after(async () => {
    await vm[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true, force: true });
  });

  for (const method of ['shared', 'native', 'stream'] as const) {
    test(`in a save by ${method}`, async (context) => {
      const own = path.join(folder, method);
      mkdirSync(own);
      const counts = await walkSaves(vm, path.join(own, 'vm'), { method }, { most: 2 });
      context.diagnostic(JSON.stringify(counts));
      assert.ok(counts.failures > 5, JSON.stringify(counts));
    });
  }
  for (const method of ['native', 'stream'] as const) {
    test(`in a load by ${method}`, async (context) => {
      const counts = await walkRestores(file(), { memory: 'shared-file' }, method, vm.console.bootChecksum, {
        most: 2,
      });
      context.diagnostic(JSON.stringify(counts));
      assert.ok(counts.failures > 2, JSON.stringify(counts));
    });
  }
  test('in a resume', async (context) => {
    const sockets = path.join(folder, 'sockets');
    mkdirSync(sockets);
    const counts = await walkResumes(file(), vm, sockets, { most: 3 });
    context.diagnostic(JSON.stringify(counts));
    assert.ok(counts.failures > 2, JSON.stringify(counts));
  });
});
