/** The examples that start VMs or save them, against real QEMUs. */

import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { before, describe, test } from 'node:test';
import { save } from '../../src/snapshot/save/save.js';
import { putExamples } from '../docs/documents.js';
import { kernelFile, needs, repositoryRoot } from '../support/environment.js';
import { linuxInitramfs } from '../support/guest-images.js';
import { startVm } from '../support/qemu.js';
import { processesWith } from '../support/resumed-guest.js';
import { temporaryFolder } from '../support/temporary-folder.js';

let folder: string;
before(() => {
  folder = temporaryFolder('examples');
  putExamples(folder);
});

/** The first line of output, or the error output of a process that ended without. */
async function firstLine(child: ChildProcess): Promise<string> {
  let output = '';
  let errors = '';
  child.stderr?.setEncoding('utf8').on('data', (piece: string) => {
    errors += piece;
  });
  for await (const piece of child.stdout?.setEncoding('utf8') ?? []) {
    output += piece;
    if (output.includes('\n')) return output.split('\n')[0] as string;
  }
  throw new Error(`it ended: ${errors}`);
}

describe('the sandbox pool', needs({ qemu: '10.0', guest: 'linux' }), () => {
  test('runs each command in a VM of its own', async () => {
    const snapshot = path.join(folder, 'sandbox.mapram');
    {
      const init = path.join(repositoryRoot, 'examples', 'sandbox-pool', 'guest-init.sh');
      const append = 'console=ttyS0 quiet loglevel=0 panic=-1 no_timer_check';
      const extraArgs = ['-kernel', kernelFile(), '-initrd', linuxInitramfs(init), '-append', append];
      await using vm = await startVm({ guest: 'none', memoryMiB: 256, paused: true, extraArgs });
      await vm.cont();
      await vm.console.waitForLine('ready');
      await save({ vm: vm.qmpPath, file: snapshot });
    }
    const service = spawn(process.execPath, [path.join(folder, 'sandbox-pool', 'service.js'), snapshot], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const exited = once(service, 'exit');
    try {
      const url = await firstLine(service);
      const run = async (body: string) => {
        const response = await fetch(url, { method: 'POST', body });
        return { code: response.headers.get('x-exit-code'), text: (await response.text()).trim() };
      };
      assert.deepEqual(await run('echo $((6 * 7)); exit 3'), { code: '3', text: '42' });
      assert.deepEqual(await run('echo secret > /tmp/mine; cat /tmp/mine'), { code: '0', text: 'secret' });
      // The next one knows nothing of it.
      assert.equal((await run('ls /tmp')).text, '');
      const several = await Promise.all(['a', 'b', 'c'].map((word) => run(`echo ${word}`)));
      assert.deepEqual(
        several.map(({ text }) => text),
        ['a', 'b', 'c'],
      );
    } finally {
      service.kill('SIGTERM');
      await exited;
    }
    assert.deepEqual(processesWith(snapshot), []);
  });
});

describe('the nightly job', needs({ qemu: '10.0', guest: 'tiny' }), () => {
  test('saves, verifies, keeps the newest, and goes on after a failure', async () => {
    await using vm = await startVm();
    const saves = mkdtempSync(path.join(folder, 'nightly-'));
    const others = ['qmp-2020-01-01T00-00-00.mapram', 'qmp-2020-01-02T00-00-00.mapram'];
    for (const name of [...others, 'qmp-notes.txt', 'qmp2-2020-01-01T00-00-00.mapram'])
      writeFileSync(path.join(saves, name), '');
    const missing = path.join(folder, 'missing.qmp');
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      [path.join(folder, 'nightly.js'), saves, '2', missing, vm.qmpPath],
      { encoding: 'utf8' },
    );
    assert.equal(status, 1, 'one of them is not there');
    assert.match(stderr, /^MONITOR: .*missing\.qmp/);
    assert.match(stdout, /qmp-\d{4}-.*\.mapram: \d+ bytes, native, (direct|buffered), paused for \d+ ms/);
    const left = readdirSync(saves).sort();
    assert.equal(left.length, 4, left.join(', '));
    assert.ok(!left.includes(others[0] as string), 'the oldest is gone');
    for (const name of [others[1] as string, 'qmp-notes.txt', 'qmp2-2020-01-01T00-00-00.mapram'])
      assert.ok(left.includes(name), name);
    const before = vm.console.counter;
    await vm.console.waitForCounterAbove(before);
  });
});
