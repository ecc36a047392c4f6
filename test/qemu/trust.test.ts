/** Saves that die: the VM goes on, the old file stays or the new one is whole. */

import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { checkLeftBehind } from '../../src/doctor/left-behind.js';
import { partPathOf } from '../../src/snapshot/files/target-file.js';
import { HeldRecord } from '../../src/snapshot/guard/save-record.js';
import { save } from '../../src/snapshot/save/save.js';
import { runCli } from '../cli/run-cli.js';
import { needs } from '../support/environment.js';
import { failsWith } from '../support/fails-with.js';
import { startVm, type TestVm } from '../support/qemu.js';
import { temporaryFolder } from '../support/temporary-folder.js';
import {
  connectWhenPossible,
  killSaves,
  killStopped,
  killWhileStopped,
  killWithGuard,
  killWithWaitingClients,
  untilRunning,
} from '../trust/kill-save.js';

describe('a save that is killed', needs({ qemu: '10.0', guest: 'tiny' }), () => {
  let vm: TestVm;
  let folder: string;
  before(async () => {
    folder = temporaryFolder('killed');
    vm = await startVm({ memory: 'shared-file' });
  });
  after(async () => {
    await vm[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true, force: true });
  });

  for (const method of ['shared', 'native', 'stream']) {
    test(`at any moment, ${method}: the VM runs within 5 s`, async (context) => {
      const counts = await killSaves(vm, path.join(folder, method), 6, 4711, ['--method', method]);
      context.diagnostic(JSON.stringify(counts));
      assert.equal(counts.old + counts.new, 6);
    });

    test(`while the VM is stopped, ${method}: it goes on`, async () => {
      await killWhileStopped(vm, path.join(folder, method), ['--method', method]);
    });
  }

  for (const method of ['native', 'stream']) {
    test(`while two others wait at the monitor, ${method}: the guard has its turn after them (R02)`, async () => {
      await killWithWaitingClients(vm, path.join(folder, `waiting-${method}`), ['--method', method]);
    });
  }

  test('while QEMU answers nothing: the guard waits as long as that takes (R03)', async () => {
    const file = path.join(folder, 'silent');
    try {
      await killStopped(vm, file, ['--method', 'native'], () => {
        process.kill(vm.pid, 'SIGSTOP');
      });
      await delay(6000);
    } finally {
      process.kill(vm.pid, 'SIGCONT');
    }
    await untilRunning(vm, file);
  });

  test('another one waits for its turn while the queue of the monitor is full (R02)', async () => {
    const others: Socket[] = [];
    for (let n = 0; n < 2; n++) others.push(await connectWhenPossible(vm.qmpPath));
    const file = path.join(folder, 'queue');
    const saving = save({ vm: vm.qmpPath, file });
    setTimeout(() => {
      for (const other of others) other.destroy();
    }, 1000);
    assert.equal((await saving).runState, 'running');
  });

  test('together with its guard, in the middle: the doctor finds VM and part file, and puts both right', async () => {
    const own = path.join(folder, 'unguarded');
    mkdirSync(own);
    const file = path.join(own, 'vm');
    await killWithGuard(vm, file, ['--method', 'shared']);
    assert.ok(existsSync(partPathOf(file)), `${partPathOf(file)} is missing`);
    const doctor = (...options: string[]) =>
      runCli(['doctor', own, '--json', ...options], { env: { XDG_RUNTIME_DIR: own } });
    const seen = await doctor();
    const { parts, vms } = seen.result.leftBehind as { parts: object[]; vms: object[] };
    assert.deepEqual(vms, [{ address: vm.qmpPath, file, rescued: false }]);
    assert.equal(parts.length, 1);
    assert.ok(existsSync(partPathOf(file)), 'looking changes nothing');
    const cured = await doctor('--rescue', '--clean');
    const after = cured.result.leftBehind as { vms: object[] };
    assert.deepEqual(after.vms, [{ address: vm.qmpPath, file, rescued: true }]);
    assert.equal(await vm.status(), 'running');
    await vm.console.waitForCounterAbove(vm.console.counter + 2);
    assert.deepEqual(readdirSync(own), ['mapram']);
    assert.deepEqual(readdirSync(path.join(own, 'mapram')), []);
  });

  test('together with its guard: the next save says so, the doctor continues the VM', async (context) => {
    const runtime = process.env.XDG_RUNTIME_DIR;
    process.env.XDG_RUNTIME_DIR = folder;
    context.after(() => {
      if (runtime === undefined) delete process.env.XDG_RUNTIME_DIR;
      else process.env.XDG_RUNTIME_DIR = runtime;
    });
    const file = path.join(folder, 'abandoned');
    const partPath = partPathOf(file);
    await vm.stop();
    await vm.qmp.execute('migrate-set-parameters', { 'max-bandwidth': 4711 << 20 });
    writeFileSync(partPath, 'half a file');
    HeldRecord.create({
      format: 1,
      file,
      partPath,
      vm: {
        address: vm.qmpPath,
        runState: 'running',
        stopped: true,
        capabilities: {},
        parameters: { 'max-bandwidth': 1 << 20 },
      },
    })[Symbol.dispose]();
    await assert.rejects(save({ vm: vm.qmpPath, file }), failsWith('VM', /doctor --rescue/));
    const seen = await checkLeftBehind(folder, { clean: false, rescue: false });
    assert.deepEqual(seen.vms, [{ address: vm.qmpPath, file, rescued: false }]);
    assert.equal(await vm.status(), 'paused');
    assert.ok(
      seen.findings.some(({ level }) => level === 'bad'),
      'nothing bad was found',
    );
    const rescued = await checkLeftBehind(folder, { clean: false, rescue: true });
    assert.deepEqual(rescued.vms, [{ address: vm.qmpPath, file, rescued: true }]);
    assert.equal(await vm.status(), 'running');
    const parameters = await vm.qmp.execute<Record<string, unknown>>('query-migrate-parameters');
    assert.equal(parameters['max-bandwidth'], 1 << 20);
    assert.equal(existsSync(partPath), false);
    assert.deepEqual((await checkLeftBehind(folder, { clean: false, rescue: false })).vms, []);

    // A save that has not stopped the guest, or whose VM was put right: it is its owner who has paused it (F20).
    const vmBefore = { address: vm.qmpPath, runState: 'running', capabilities: {}, parameters: {} };
    for (const stopped of [false, undefined]) {
      await vm.stop();
      HeldRecord.create({
        format: 1,
        file,
        partPath,
        vm: { ...vmBefore, ...(stopped === undefined ? {} : { stopped }) },
      })[Symbol.dispose]();
      await checkLeftBehind(folder, { clean: false, rescue: true });
      assert.equal(await vm.status(), 'paused');
      assert.deepEqual(readdirSync(path.join(folder, 'mapram')), []);
      await vm.cont();
    }

    // Its owner has continued it: the next save takes the record away, so that a later pause is not taken for that of the save (F20).
    HeldRecord.create({ format: 1, file, partPath, vm: { ...vmBefore, stopped: true } })[Symbol.dispose]();
    await save({ vm: vm.qmpPath, file, force: true });
    await vm.stop();
    assert.deepEqual((await checkLeftBehind(folder, { clean: false, rescue: true })).vms, []);
    assert.equal(await vm.status(), 'paused');
    await vm.cont();
  });

  test('and revived while its part file cannot be removed leaves no record that outlives it (F20)', async (context) => {
    const own = path.join(folder, 'stuck');
    mkdirSync(own);
    const runtime = process.env.XDG_RUNTIME_DIR;
    process.env.XDG_RUNTIME_DIR = own;
    context.after(() => {
      if (runtime === undefined) delete process.env.XDG_RUNTIME_DIR;
      else process.env.XDG_RUNTIME_DIR = runtime;
    });
    // No file, and no folder either: looking for it fails in another way than by not finding it.
    const partPath = path.join(own, 'file', partPathOf('vm'));
    writeFileSync(path.join(own, 'file'), '');
    await vm.stop();
    const record = {
      address: vm.qmpPath,
      runState: 'running',
      stopped: true,
      capabilities: {},
      parameters: {},
    };
    HeldRecord.create({ format: 1, file: path.join(own, 'vm'), partPath, vm: record })[Symbol.dispose]();
    const { vms } = await checkLeftBehind(own, { clean: false, rescue: true });
    assert.deepEqual(vms, [{ address: vm.qmpPath, file: path.join(own, 'vm'), rescued: true }]);
    assert.equal(await vm.status(), 'running');
    assert.deepEqual(readdirSync(path.join(own, 'mapram')), []);
  });
});
