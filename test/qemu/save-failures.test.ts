/** Whatever goes wrong with a save or a load: one clear sentence, the VM as before, nothing half-written left. */

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  watch,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { MapramError, type MapramErrorCode } from '../../src/errors.js';
import { partPathOf } from '../../src/snapshot/files/target-file.js';
import { restore } from '../../src/snapshot/restore/restore.js';
import { type SaveOptions, save } from '../../src/snapshot/save/save.js';
import { needs } from '../support/environment.js';
import { failsWith } from '../support/fails-with.js';
import { startVm, type TestVm } from '../support/qemu.js';
import { temporaryFolder } from '../support/temporary-folder.js';

let folder: string;
before(() => {
  folder = temporaryFolder('failures');
});

async function migrationOptions(vm: TestVm): Promise<unknown> {
  return {
    parameters: await vm.qmp.execute('query-migrate-parameters'),
    capabilities: await vm.qmp.execute('query-migrate-capabilities'),
  };
}

/** A save that fails must leave the guest counting, its options as they were, and no file. */
async function refusesAndGoesOn(
  vm: TestVm,
  options: Omit<SaveOptions, 'vm'>,
  code: MapramErrorCode,
  pattern: RegExp,
): Promise<void> {
  const before = await migrationOptions(vm);
  const names = readdirSync(path.dirname(options.file));
  await assert.rejects(save({ vm: vm.qmpPath, ...options }), failsWith(code, pattern));
  assert.equal(await vm.status(), 'running');
  await vm.console.waitForCounterAbove(vm.console.counter + 3);
  assert.deepEqual(await migrationOptions(vm), before);
  assert.deepEqual(readdirSync(path.dirname(options.file)), names, 'no file and no part of one');
}

test('a socket that is not there, or is not a monitor', async () => {
  const file = path.join(folder, 'never');
  await assert.rejects(
    save({ vm: path.join(folder, 'no.sock'), file }),
    failsWith('MONITOR', /no such socket/),
  );
  const foreign = path.join(folder, 'foreign.sock');
  const server = createServer((socket) => socket.end('SSH-2.0-nothing\r\n')).listen(foreign);
  await assert.rejects(save({ vm: foreign, file }), failsWith('MONITOR', /not a QMP server/));
  server.close();
  assert.equal(existsSync(file), false);
});

describe('a save that cannot be', needs({ qemu: '10.0', guest: 'tiny' }), () => {
  let vm: TestVm;
  before(async () => {
    vm = await startVm({ memory: 'shared-file' });
  });
  after(() => vm[Symbol.asyncDispose]());

  test('to a file that exists', async () => {
    const file = path.join(folder, 'exists');
    writeFileSync(file, 'precious');
    await refusesAndGoesOn(vm, { file }, 'EXISTS', /exists already, use --force/);
    rmSync(file);
  });

  test('while the VM migrates already', async () => {
    await vm.qmp.execute('migrate-set-parameters', { 'max-bandwidth': 4096 });
    await vm.qmp.execute('migrate', { uri: 'exec:cat > /dev/null' });
    await refusesAndGoesOn(
      vm,
      { file: path.join(folder, 'busy') },
      'BUSY',
      /migrating already \((setup|active)\)/,
    );
    await vm.qmp.execute('migrate_cancel');
    await vm.qmp.execute('migrate-set-parameters', { 'max-bandwidth': 128 << 20 });
    while ((await vm.qmp.execute<{ status: string }>('query-migrate')).status !== 'cancelled');
  });

  test('is cancelled in the middle', async () => {
    for (const method of ['shared', 'native'] as const) {
      const abort = new AbortController();
      const onProgress = () => abort.abort(new MapramError('CANCELLED', 'the user pressed ^C'));
      await refusesAndGoesOn(
        vm,
        { file: path.join(folder, 'cancelled'), method, signal: abort.signal, onProgress },
        'CANCELLED',
        /cancelled|\^C/,
      );
    }
  });

  for (const method of ['shared', 'stream', 'native'] as const) {
    test(`in a directory where another process swaps the part file, ${method}: no page reaches the other file (F6)`, async () => {
      const own = path.join(folder, `swapped-${method}`);
      mkdirSync(own);
      const file = path.join(own, 'vm');
      const part = partPathOf(file);
      const watcher = watch(own);
      const swapped = once(watcher, 'change').then(() => {
        watcher.close();
        renameSync(part, path.join(own, 'stolen'));
        writeFileSync(part, '', { mode: 0o666 });
      });
      await assert.rejects(save({ vm: vm.qmpPath, file, method }), failsWith('IO', /removed or replaced/));
      await swapped;
      assert.equal(statSync(part).size, 0);
      assert.equal(existsSync(file), false);
      assert.equal(await vm.status(), 'running');
      await vm.console.waitForCounterAbove(vm.console.counter + 3);
    });
  }

  test('with too few descriptors, whichever call meets that: a failure that is caught, and the VM runs (F23)', async () => {
    const script = path.join(import.meta.dirname, 'save-with-few-descriptors.js');
    const { stdout, stderr } = spawnSync(process.execPath, [script, vm.qmpPath, folder], {
      encoding: 'utf8',
    });
    const outcomes = JSON.parse(stdout || `"${stderr}"`) as string[];
    assert.equal(outcomes.length, 12, stdout);
    assert.ok(outcomes.includes('IO'), stdout);
    for (const outcome of outcomes) assert.match(outcome, /^(?:saved|IO|MIGRATION|MONITOR|QMP)$/, stdout);
    while ((await vm.status()) !== 'running') await sleep(50);
  });

  test('where direct I/O is demanded and refused', {
    skip: process.getuid?.() !== 0 && 'needs root',
  }, async () => {
    const ramfs = path.join(folder, 'ramfs');
    mkdirSync(ramfs);
    execFileSync('mount', ['-t', 'ramfs', 'ramfs', ramfs]);
    try {
      const file = path.join(ramfs, 'vm');
      await refusesAndGoesOn(
        vm,
        { file, directIo: 'on' },
        'NO_DIRECT_IO',
        /does not support O_DIRECT|refuses O_DIRECT/,
      );
      for (const method of ['shared', 'native'] as const) {
        const warnings: string[] = [];
        const result = await save({
          vm: vm.qmpPath,
          file,
          method,
          force: true,
          onWarning: (text) => warnings.push(text),
        });
        assert.equal(result.directIo, false);
        assert.equal(warnings.length, 1, warnings.join('\n'));
        assert.match(warnings[0] ?? '', /O_DIRECT/);
        assert.equal(await vm.status(), 'running', 'QEMU 10.0.2 itself dies here');
      }
    } finally {
      execFileSync('umount', [ramfs]);
    }
  });

  test('where there is no space', { skip: process.getuid?.() !== 0 && 'needs root' }, async () => {
    const small = path.join(folder, 'small');
    mkdirSync(small);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=16m', 'tmpfs', small]);
    try {
      await refusesAndGoesOn(
        vm,
        { file: path.join(small, 'vm') },
        'NO_SPACE',
        /up to \d+ MiB are needed and 16 MiB are free/,
      );
    } finally {
      execFileSync('umount', [small]);
    }
  });
});

test('a save from a QEMU that is too old for it', needs({ qemu: '7.2', guest: 'tiny' }), async () => {
  await using vm = await startVm({ qemu: '7.2', machine: 'pc' });
  await refusesAndGoesOn(
    vm,
    { file: path.join(folder, 'old'), method: 'native' },
    'UNSUPPORTED',
    /QEMU 7\.2\.\d+ has no direct-io migration/,
  );
});

test('QEMU dies in the middle of a save', needs({ qemu: '10.0', guest: 'tiny' }), async () => {
  for (const method of ['shared', 'native'] as const) {
    await using vm = await startVm({ memory: 'shared-file' });
    const file = path.join(folder, `killed-${method}`);
    const onProgress = () => {
      if (!vm.ended) process.kill(vm.pid, 'SIGKILL');
    };
    await assert.rejects(
      save({ vm: vm.qmpPath, file, method, onProgress }),
      failsWith('MONITOR', /got no answer|was lost/),
    );
    assert.deepEqual(
      readdirSync(folder).filter((name) => name.includes('killed')),
      [],
    );
  }
});

describe('a load that cannot be', needs({ qemu: '10.0', guest: 'tiny' }), () => {
  let file: string;
  before(async () => {
    file = path.join(folder, 'good');
    await using vm = await startVm({ memory: 'shared-file' });
    await save({ vm: vm.qmpPath, file });
  });

  async function refusesToLoad(options: Parameters<typeof startVm>[0], pattern: RegExp): Promise<void> {
    await using vm = await startVm({ incoming: true, ...options });
    await assert.rejects(restore({ file, vm: vm.qmpPath }), failsWith('VM', pattern));
    assert.equal(await vm.status(), 'inmigrate', 'QEMU has not seen the file');
    assert.deepEqual(await vm.qmp.execute('query-migrate'), {});
  }

  test('into another machine, with more memory, with more CPUs, or that does not wait', async () => {
    await refusesToLoad(
      { machine: 'pc' },
      /the file is of machine type pc-q35-10\.0, the VM is a pc-i440fx-10\.0/,
    );
    // Memory under another name is another RAM block.
    await refusesToLoad({ memory: 'numa-anonymous' }, /RAM block/);
    await refusesToLoad(
      { memory: 'shared-file', memoryMiB: 128 },
      /has 67108864 bytes in the file and 134217728 in the VM/,
    );
    await refusesToLoad(
      { memory: 'shared-file', extraArgs: ['-smp', '2'] },
      /the file has 1 CPUs and the VM 2/,
    );
    await using running = await startVm({ memory: 'shared-file' });
    await assert.rejects(
      restore({ file, vm: running.qmpPath }),
      failsWith('VM', /it is running and does not wait/),
    );
    assert.equal(await running.status(), 'running');
  });

  test('of a file that is something else or cut short', async () => {
    await using vm = await startVm({ memory: 'shared-file', incoming: true });
    const cut = path.join(folder, 'cut');
    execFileSync('cp', ['--sparse=always', file, cut]);
    truncateSync(cut, 40 << 20);
    await assert.rejects(
      restore({ file: cut, vm: vm.qmpPath }),
      failsWith('FORMAT', /cut short|did not finish|ends/),
    );
    await assert.rejects(restore({ file: '/bin/true', vm: vm.qmpPath }), failsWith('FORMAT', /ELF/));
    await assert.rejects(
      restore({ file: path.join(folder, 'none'), vm: vm.qmpPath }),
      failsWith('IO', /no such file/),
    );
    await assert.rejects(restore({ file: folder, vm: vm.qmpPath }), failsWith('FORMAT', /directory/));
    assert.equal(await vm.status(), 'inmigrate');
    const result = await restore({ file, vm: vm.qmpPath });
    assert.equal(result.runState, 'running', 'the same VM still takes the right file');
  });
});
