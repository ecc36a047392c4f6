/** Disks of a guest that never stops writing, until it is stopped for the save. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { planResume, resume } from '../../src/snapshot/resume/resume.js';
import { type SaveOptions, save } from '../../src/snapshot/save/save.js';
import { diskWriterImage } from '../support/disk-writer.js';
import { needs } from '../support/environment.js';
import { failsWith } from '../support/fails-with.js';
import { startVm, type VmOptions } from '../support/qemu.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const DISK_BYTES = 64 << 20;

type Way = Omit<SaveOptions, 'vm' | 'file'>;

describe('a guest that writes all the time', needs({ qemu: ['10.0', '7.2'], tools: ['qemu-img'] }), () => {
  let folder: string;
  let raw: string;
  let disk: string;
  let file: string;

  before(() => {
    folder = temporaryFolder('busy-disk');
    raw = path.join(folder, 'raw');
    disk = path.join(folder, 'disk');
    file = path.join(folder, 'vm.mapram');
    writeFileSync(raw, diskWriterImage(DISK_BYTES));
  });

  /** A VM that is in the middle of its writing. */
  async function startWriter(format: string, options: VmOptions) {
    execFileSync('qemu-img', ['convert', '-O', format, raw, disk]);
    const before = statSync(disk).mtimeMs;
    const vm = await startVm({
      machine: 'pc',
      guest: 'none',
      ...options,
      extraArgs: ['-drive', `file=${disk},format=${format},if=ide`],
    });
    while (statSync(disk).mtimeMs === before) await delay(20);
    return vm;
  }

  const ways: [name: string, vm: VmOptions, format: string, way: Way][] = [
    ['shared', { memory: 'shared-file' }, 'qcow2', { method: 'shared' }],
    ['native', {}, 'qcow2', { method: 'native' }],
    ['native, live', {}, 'raw', { method: 'native', live: true }],
    ['stream', {}, 'qcow2', { method: 'stream' }],
    ['stream, live', {}, 'qcow2', { method: 'stream', live: true }],
    ['shared, of QEMU 7.2', { qemu: '7.2', memory: 'shared-file' }, 'qcow2', { method: 'shared' }],
    ['stream, of QEMU 7.2', { qemu: '7.2' }, 'raw', { method: 'stream' }],
  ];
  for (const [name, options, format, way] of ways) {
    test(`is resumed from its disk as save --then quit left it: ${name} (failure 2)`, async () => {
      await using vm = await startWriter(format, options);
      const warnings: string[] = [];
      await save({
        ...way,
        vm: vm.qmpPath,
        file,
        force: true,
        directIo: 'auto',
        afterwards: 'quit',
        onWarning: (text) => warnings.push(text),
      });
      assert.doesNotMatch(warnings.join(), /when QEMU ended/);
      const { warnings: seen } = await planResume({ file });
      assert.doesNotMatch(seen.join(), /disks have changed/);
      if (options.qemu === '7.2') return;
      const saved = statSync(disk).mtimeMs;
      await using resumed = await resume({ file, onWarning: () => {} });
      assert.equal(resumed.facts.runState, 'running');
      while (statSync(disk).mtimeMs === saved) await delay(20);
    });
  }

  test('has changed its disk when it goes on after the save, and the file is refused', async () => {
    await using vm = await startWriter('qcow2', {});
    await save({ vm: vm.qmpPath, file, force: true, method: 'stream' });
    const saved = statSync(disk).mtimeMs;
    while (statSync(disk).mtimeMs === saved) await delay(20);
    await assert.rejects(planResume({ file }), failsWith('BUSY', /is being written to by another VM/));
    await vm[Symbol.asyncDispose]();
    await assert.rejects(planResume({ file }), failsWith('VM', /disks have changed .*--allow-changed-disks/));
  });

  test('is said to have a younger disk than memory by a background snapshot (failure 12)', async () => {
    await using vm = await startWriter('qcow2', {});
    const warnings: string[] = [];
    await save({
      vm: vm.qmpPath,
      file,
      force: true,
      background: true,
      afterwards: 'quit',
      onWarning: (text) => warnings.push(text),
    });
    assert.match(warnings.join(), /writes to .*disk afterwards is newer.*--then quit/);
    await assert.rejects(planResume({ file }), failsWith('VM', /disks have changed/));
  });
});
