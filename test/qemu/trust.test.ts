/** Saves that die: the VM goes on, the old file stays or the new one is whole. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { checkLeftBehind } from '../../src/doctor/left-behind.js';
import { MapramError } from '../../src/errors.js';
import { HeldRecord } from '../../src/snapshot/guard/save-record.js';
import { save } from '../../src/snapshot/save.js';
import { partPathOf } from '../../src/snapshot/target-file.js';
import { runCli } from '../cli/run-cli.js';
import { needs } from '../support/environment.js';
import { startVm, type TestVm } from '../support/qemu.js';
import { killSaves, killWhileStopped, killWithGuard } from '../trust/kill-save.js';

describe('a save that is killed', needs({ qemu: '10.0', guest: 'tiny' }), () => {
  let vm: TestVm;
  let folder: string;
  before(async () => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'mapram-killed-'));
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

  test('together with its guard, in the middle: the doctor finds VM and part file, and puts both right', async () => {
    const own = path.join(folder, 'unguarded');
    mkdirSync(own);
    const file = path.join(own, 'vm');
    await killWithGuard(vm, file, ['--method', 'shared']);
    assert.ok(existsSync(partPathOf(file)));
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
        capabilities: {},
        parameters: { 'max-bandwidth': 1 << 20 },
      },
    })[Symbol.dispose]();
    await assert.rejects(
      save({ vm: vm.qmpPath, file }),
      (error) => error instanceof MapramError && error.code === 'VM' && /doctor --rescue/.test(error.message),
    );
    const seen = await checkLeftBehind(folder, { clean: false, rescue: false });
    assert.deepEqual(seen.vms, [{ address: vm.qmpPath, file, rescued: false }]);
    assert.equal(await vm.status(), 'paused');
    assert.ok(seen.findings.some(({ level }) => level === 'bad'));
    const rescued = await checkLeftBehind(folder, { clean: false, rescue: true });
    assert.deepEqual(rescued.vms, [{ address: vm.qmpPath, file, rescued: true }]);
    assert.equal(await vm.status(), 'running');
    const parameters = await vm.qmp.execute<Record<string, unknown>>('query-migrate-parameters');
    assert.equal(parameters['max-bandwidth'], 1 << 20);
    assert.equal(existsSync(partPath), false);
    assert.deepEqual((await checkLeftBehind(folder, { clean: false, rescue: false })).vms, []);
  });
});
