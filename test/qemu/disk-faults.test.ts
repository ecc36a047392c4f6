/** Disks that fill up or fail in the middle of a save, and QEMUs that are killed: real ones. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { MapramError } from '../../src/errors.js';
import { partPathOf } from '../../src/snapshot/files/target-file.js';
import { restore } from '../../src/snapshot/restore/restore.js';
import { type SaveOptions, save } from '../../src/snapshot/save/save.js';
import { verify } from '../../src/snapshot/verify/verify.js';
import { needs } from '../support/environment.js';
import { startVm, type TestVm } from '../support/qemu.js';
import { SmallDisk, whyNoSmallDisk } from '../support/small-disk.js';

const METHODS = ['shared', 'native', 'stream'] as const;
const { skip } = needs({ qemu: '10.0', guest: 'tiny' });

async function failureOf(work: Promise<unknown>): Promise<MapramError> {
  const error = await work.then(
    () => assert.fail('it went well'),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof MapramError, String(error));
  assert.doesNotMatch(error.message, /\n/);
  return error;
}

/** Runs `act` as soon as more than `bytes` of the file that is being written are on the disk. */
async function whenWritten(
  file: string,
  bytes: number,
  act: () => void,
  signal: AbortSignal,
): Promise<boolean> {
  while (!signal.aborted) {
    const status = statSync(partPathOf(file), { throwIfNoEntry: false });
    if (status !== undefined && status.blocks * 512 > bytes) {
      act();
      return true;
    }
    await delay(1);
  }
  return false;
}

describe('a disk', { skip: skip || whyNoSmallDisk() }, () => {
  let vm: TestVm;
  before(async () => {
    vm = await startVm({ memory: 'shared-file', memoryMiB: 160, fillMiB: 128 });
  });
  after(() => vm[Symbol.asyncDispose]());

  async function assertGoesOn(): Promise<void> {
    assert.equal(await vm.status(), 'running');
    await vm.console.waitForCounterAbove(vm.console.counter + 3);
    assert.deepEqual(vm.console.torn, []);
  }

  for (const method of METHODS) {
    for (const directIo of ['on', 'off'] as const) {
      test(`that fills up in the middle of a save by ${method}, direct I/O ${directIo}`, async () => {
        using disk = SmallDisk.create({ sizeMiB: 200 });
        const file = path.join(disk.path, 'vm');
        const over = new AbortController();
        const options: SaveOptions = { vm: vm.qmpPath, file, method, directIo, channels: 2 };
        const saving = save(options).finally(() => over.abort());
        const [failure, filled] = await Promise.all([
          failureOf(saving),
          whenWritten(file, 4 << 20, () => disk.fill(), over.signal),
        ]);
        assert.ok(filled, 'it had begun to write');
        assert.equal(failure.code, 'NO_SPACE', failure.message);
        assert.ok(failure.message.includes(file), failure.message);
        assert.deepEqual(readdirSync(disk.path).sort(), ['ballast', 'lost+found']);
        await assertGoesOn();
      });

      test(`that has less than it says, found out in a save by ${method}, direct I/O ${directIo}`, async () => {
        using disk = SmallDisk.create({ sizeMiB: 256, backedMiB: 48 });
        const file = path.join(disk.path, 'vm');
        const failure = await failureOf(save({ vm: vm.qmpPath, file, method, directIo, channels: 2 }));
        assert.equal(failure.code, 'NO_SPACE', failure.message);
        assert.ok(failure.message.includes(file), failure.message);
        assert.deepEqual(readdirSync(disk.path), ['lost+found']);
        await assertGoesOn();
      });
    }
  }

  test('that was good enough: the same VM is saved as before', async () => {
    using disk = SmallDisk.create({ sizeMiB: 256 });
    const file = path.join(disk.path, 'vm');
    await save({ vm: vm.qmpPath, file });
    assert.deepEqual((await verify({ file })).problems, []);
    await assertGoesOn();
  });
});

describe('a disk that breaks behind a save', { skip: skip || whyNoSmallDisk() }, () => {
  test('verify names what cannot be read, and nothing of it is loaded', async () => {
    using disk = SmallDisk.create({ sizeMiB: 256 });
    const file = path.join(disk.path, 'vm');
    {
      await using vm = await startVm({ memory: 'shared-file', memoryMiB: 160, fillMiB: 128 });
      await save({ vm: vm.qmpPath, file });
    }
    disk.breakAfter(64 << 20);
    const { ok, problems } = await verify({ file, directIo: 'on' });
    assert.equal(ok, false);
    const unreadable = problems.filter(({ kind, where }) => kind === 'unreadable' && where === 'pc.ram');
    assert.ok(unreadable.length > 0, JSON.stringify(problems.slice(0, 3)));
    for (const { guestAddress, length = 0 } of unreadable)
      assert.ok(guestAddress !== undefined && length > 0, `guest address ${guestAddress}, ${length} bytes`);
    await using vm = await startVm({ memory: 'shared-file', memoryMiB: 160, incoming: true });
    const failure = await failureOf(restore({ file, vm: vm.qmpPath, verify: true, directIo: 'on' }));
    assert.equal(failure.code, 'FORMAT');
    assert.match(failure.message, /cannot be read from the disk/);
    assert.equal(await vm.status(), 'inmigrate');
  });
});

describe('a QEMU that is killed', { skip }, () => {
  let folder: string;
  let file: string;
  before(async () => {
    folder = await mkdtemp(path.join(os.tmpdir(), 'mapram-killed-qemu-'));
    file = path.join(folder, 'sound');
    await using vm = await startVm({ memory: 'shared-file', memoryMiB: 160, fillMiB: 128 });
    await save({ vm: vm.qmpPath, file });
  });
  after(() => rm(folder, { recursive: true, force: true }));

  for (const method of METHODS) {
    test(`in the middle of a save by ${method}: no file, and no part of one`, async () => {
      await using vm = await startVm({ memory: 'shared-file', memoryMiB: 160, fillMiB: 128 });
      const target = path.join(folder, 'never');
      const over = new AbortController();
      const saving = save({ vm: vm.qmpPath, file: target, method, channels: 2 }).finally(() => over.abort());
      const [failure, killed] = await Promise.all([
        failureOf(saving),
        whenWritten(target, 2 << 20, () => process.kill(vm.pid, 'SIGKILL'), over.signal),
      ]);
      assert.ok(killed, 'there is no killed');
      assert.ok(['MONITOR', 'MIGRATION', 'VM'].includes(failure.code), `${failure.code}: ${failure.message}`);
      assert.equal(existsSync(target), false);
      assert.equal(existsSync(partPathOf(target)), false);
    });
  }

  for (const method of ['shared', 'native', 'stream'] as const) {
    test(`in the middle of a load by ${method}: an error, and the file as it was`, async () => {
      const before = statSync(file).mtimeMs;
      await using vm = await startVm({ memory: 'shared-file', memoryMiB: 160, incoming: true });
      const loading = restore({
        file,
        vm: vm.qmpPath,
        method,
        channels: 2,
        verify: true,
        // The check reads all of the file; QEMU gets its part behind it.
        onProgress({ phase, bytes, totalBytes }) {
          if (phase === 'checksums' && bytes >= totalBytes && !vm.ended) process.kill(vm.pid, 'SIGKILL');
        },
      });
      const failure = await failureOf(loading);
      assert.match(
        failure.message,
        /was lost|got no answer|no such socket|refuses|nobody listens|ECONN/,
        failure.message,
      );
      assert.equal(statSync(file).mtimeMs, before);
      assert.deepEqual((await verify({ file })).problems, []);
    });
  }
});
