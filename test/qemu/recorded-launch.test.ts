/** Files of mapram know how their VM was started: resuming needs nothing else. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { appendFileSync, chmodSync, existsSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fork } from '../../src/snapshot/resume/fork.js';
import { planResume, resume } from '../../src/snapshot/resume/resume.js';
import { save } from '../../src/snapshot/save/save.js';
import { needs, qemuProgram } from '../support/environment.js';
import { failsWith } from '../support/fails-with.js';
import { startVm } from '../support/qemu.js';
import { consoleIn, killProcessesWith, processesWith } from '../support/resumed-guest.js';
import { temporaryFolder } from '../support/temporary-folder.js';

describe('a file that mapram has saved', needs({ qemu: '10.0', guest: 'tiny', tools: ['qemu-img'] }), () => {
  const quiet = { onWarning: () => {} };
  const secrets = { key0: 'open sesame' };
  let folder: string;
  let disk: string;
  let file: string;
  let counter: number;
  let bootChecksum: string | undefined;

  before(async () => {
    folder = temporaryFolder('recorded');
    disk = path.join(folder, 'disk.img');
    file = path.join(folder, 'vm.mapram');
    writeFileSync(disk, Buffer.alloc(1 << 20));
    await using vm = await startVm({
      extraArgs: [
        ...['-object', `secret,id=key0,data=${secrets.key0}`],
        ...['-drive', `file=${disk},format=raw,if=virtio`],
      ],
    });
    await save({ vm: vm.qmpPath, file, ...quiet });
    counter = vm.console.counter;
    bootChecksum = vm.console.bootChecksum;
  });
  after(() => {
    killProcessesWith(folder);
    rmSync(folder, { recursive: true, force: true });
  });

  test('is forked without a word about the VM', async () => {
    await using clones = await fork({ file, count: 2, secrets, ...quiet });
    for (const { directory } of clones.vms) {
      const console = await consoleIn(directory);
      await console.waitForCounterAbove(counter);
      assert.equal(await console.checksum(), bootChecksum);
      console.close();
    }
  });

  test('can be saved and forked again while it runs from a file', async () => {
    const second = path.join(folder, 'second.mapram');
    const directory = path.join(folder, 'clones');
    {
      await using clones = await fork({ file, count: 1, dir: directory, keep: true, secrets, ...quiet });
      const [vm] = clones.vms;
      assert.ok(vm, 'there is no vm');
      const { runState } = await save({ vm: vm.facts.qmp, file: second, ...quiet });
      assert.equal(runState, 'running');
      // Its disk belongs to the first clone as long as that runs.
      await assert.rejects(
        fork({ file: second, count: 1, secrets, ...quiet }),
        failsWith('BUSY', /disk0\.qcow2 is being written to by another VM \(process \d+\)/),
      );
    }
    await using again = await fork({ file: second, count: 1, secrets, ...quiet });
    const console = await consoleIn(path.dirname(again.vms[0]?.facts.qmp as string));
    await console.waitForCounterAbove(counter);
    assert.equal(await console.checksum(), bootChecksum);
    assert.deepEqual(console.torn, []);
    console.close();
  });

  test('is refused before anything is loaded while the VM that was saved runs on with its disk (R16)', async () => {
    const copy = path.join(folder, 'running.mapram');
    const image = path.join(folder, 'running.img');
    writeFileSync(image, Buffer.alloc(1 << 20));
    await using vm = await startVm({ extraArgs: ['-drive', `file=${image},format=raw,if=virtio`] });
    await save({ vm: vm.qmpPath, file: copy, ...quiet });
    await assert.rejects(
      resume({ file: copy, qmp: path.join(folder, 'second.qmp'), ...quiet }),
      failsWith(
        'BUSY',
        new RegExp(`running\\.img is being written to by another VM \\(process ${vm.pid}\\)`),
      ),
    );
    await vm.console.waitForCounterAbove(vm.console.counter);
  });

  test('asks for the secrets that it does not hold', async () => {
    await assert.rejects(
      resume({ file, ...quiet }),
      failsWith('USAGE', /--secret NAME=FILE: key0 \(-object secret,id=key0: data\)/),
    );
  });

  test('is refused when somebody else could have written its command line', async () => {
    chmodSync(file, 0o666);
    try {
      await assert.rejects(
        resume({ file, secrets, ...quiet }),
        failsWith('UNTRUSTED', /others may write to it/),
      );
      const plan = await planResume({ file, secrets, ...quiet });
      assert.deepEqual(plan.trust, { origin: 'unknown', reason: 'others may write to it' });
    } finally {
      chmodSync(file, 0o600);
    }
  });

  test('is refused when a disk has changed since, unless that is allowed', async () => {
    appendFileSync(disk, 'x');
    await assert.rejects(
      resume({ file, secrets, ...quiet }),
      failsWith('VM', /disk\.img had 1048576 bytes and has 1048577/),
    );
    const warnings: string[] = [];
    await planResume({ file, secrets, allowChangedDisks: true });
    await using clones = await fork({
      file,
      count: 1,
      secrets,
      allowChangedDisks: true,
      onWarning: (text) => warnings.push(text),
    });
    assert.equal(clones.vms.length, 1);
    assert.match(warnings.join(), /disks have changed/);
  });

  test('leaves no process behind', () => assert.deepEqual(processesWith(file), []));
});

test('relative names of a QEMU with -daemonize are those of the directory in which it was started', {
  ...needs({ qemu: '10.0' }),
  timeout: 60_000,
}, async () => {
  const folder = temporaryFolder('daemonized');
  const { program, args } = qemuProgram('10.0');
  writeFileSync(path.join(folder, 'disk.img'), Buffer.alloc(1 << 20));
  const command = [
    ...[...args, '-machine', 'q35', '-m', '64M', '-display', 'none', '-nodefaults', '-daemonize', '-S'],
    ...['-serial', 'file:serial.log', '-qmp', 'unix:vm.qmp,server=on,wait=off'],
    // QEMU itself cannot migrate a VM with a writable disk that it opened by a relative name.
    ...['-drive', `file=${folder}/disk.img,format=raw,if=virtio`],
  ];
  const env = { ...process.env, PWD: folder };
  const { status, stderr } = spawnSync(program, command, { cwd: folder, env, encoding: 'utf8' });
  assert.equal(status, 0, stderr);
  const file = path.join(folder, 'vm.mapram');
  try {
    await save({ vm: path.join(folder, 'vm.qmp'), file, afterwards: 'quit' });
    const plan = await planResume({ file });
    assert.equal(plan.workingDirectory, folder);
    rmSync(path.join(folder, 'serial.log'));
    await using _vm = await resume({ file, qmp: path.join(folder, 'new.qmp') });
    assert.ok(existsSync(path.join(folder, 'serial.log')), 'the serial log is elsewhere');
  } finally {
    killProcessesWith(folder);
  }
});
