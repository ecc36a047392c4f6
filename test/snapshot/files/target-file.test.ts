import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  closeSync,
  existsSync,
  fstatSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { MapramError } from '../../../src/errors.js';
import { installFaults } from '../../../src/io/faults.js';
import { tryLock } from '../../../src/io/file/file-lock.js';
import { partPathOf, TargetFile, targetOfPart } from '../../../src/snapshot/files/target-file.js';
import { temporaryFolder } from '../../support/temporary-folder.js';

async function inDirectory(body: (directory: string) => void | Promise<void>): Promise<void> {
  const directory = temporaryFolder('target');
  try {
    await body(directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

const failsWith = (code: string, pattern: RegExp) => (error: unknown) =>
  error instanceof MapramError && error.code === code && pattern.test(error.message);

test('the file appears at publish, whole, private, and the part file is gone', async () => {
  await inDirectory(async (directory) => {
    const file = path.join(directory, 'vm.mapram');
    const target = TargetFile.create(file);
    writeSync(target.fd, 'whole');
    assert.equal(existsSync(file), false);
    await target.publish();
    assert.equal(readFileSync(file, 'utf8'), 'whole');
    assert.equal(statSync(file).mode & 0o777, 0o600);
    assert.deepEqual(readdirSync(directory), ['vm.mapram']);
  });
});

test('an existing file is refused without force, and kept until publish with it', async () => {
  await inDirectory(async (directory) => {
    const file = path.join(directory, 'vm.mapram');
    writeFileSync(file, 'old');
    assert.throws(() => TargetFile.create(file), failsWith('EXISTS', /exists already, use --force/));
    const discarded = TargetFile.create(file, { force: true });
    writeSync(discarded.fd, 'half');
    discarded.discard();
    assert.equal(readFileSync(file, 'utf8'), 'old');
    const target = TargetFile.create(file, { force: true });
    writeSync(target.fd, 'new');
    assert.equal(readFileSync(file, 'utf8'), 'old');
    await target.publish();
    assert.equal(readFileSync(file, 'utf8'), 'new');
    assert.deepEqual(readdirSync(directory), ['vm.mapram']);
  });
});

test('a file that appears meanwhile is not replaced without force', async () => {
  await inDirectory(async (directory) => {
    const file = path.join(directory, 'vm.mapram');
    const target = TargetFile.create(file);
    writeFileSync(file, 'other');
    await assert.rejects(() => target.publish(), failsWith('EXISTS', /exists already/));
    target.discard();
    assert.equal(readFileSync(file, 'utf8'), 'other');
    assert.deepEqual(readdirSync(directory), ['vm.mapram']);
  });
});

test('a second writer is told that the file is being written; a dead one leaves no lock', async () => {
  await inDirectory(async (directory) => {
    const file = path.join(directory, 'vm.mapram');
    const first = TargetFile.create(file);
    writeSync(first.fd, 'a part that outlives its writer');
    assert.throws(() => TargetFile.create(file), failsWith('BUSY', /another process is writing it/));
    first.discard();
    writeFileSync(partPathOf(file), 'left over from a crash');
    const second = TargetFile.create(file);
    assert.equal(statSync(partPathOf(file)).size, 0, 'what a dead writer left is gone');
    await second.publish();
    assert.equal(readFileSync(file, 'utf8'), '');
  });
});

test('directories, FIFOs, devices and missing directories are named as such', async () => {
  await inDirectory(async (directory) => {
    const fifo = path.join(directory, 'fifo');
    execFileSync('mkfifo', [fifo]);
    assert.throws(() => TargetFile.create(fifo, { force: true }), failsWith('UNSUPPORTED', /it is a FIFO/));
    mkdirSync(path.join(directory, 'sub'));
    assert.throws(
      () => TargetFile.create(path.join(directory, 'sub'), { force: true }),
      failsWith('UNSUPPORTED', /it is a directory/),
    );
    assert.throws(
      () => TargetFile.create('/dev/null', { force: true }),
      failsWith('UNSUPPORTED', /it is a device/),
    );
    assert.throws(
      () => TargetFile.create(path.join(directory, 'no', 'vm')),
      failsWith('IO', /there is no directory/),
    );
    assert.throws(() => TargetFile.create(path.join(fifo, 'vm')), failsWith('IO', /is not a directory/));
  });
});

test('a symbolic link in place of the part file is replaced, not followed (F6)', async () => {
  await inDirectory(async (directory) => {
    const file = path.join(directory, 'vm.mapram');
    const victim = path.join(directory, 'victim');
    writeFileSync(victim, 'precious');
    symlinkSync(victim, partPathOf(file));
    const target = TargetFile.create(file);
    writeSync(target.fd, 'whole');
    await target.publish();
    assert.equal(readFileSync(victim, 'utf8'), 'precious');
    assert.equal(readFileSync(file, 'utf8'), 'whole');
  });
});

test('what lies in place of the part file is never written to: a second name of a file keeps its contents (F6)', async () => {
  await inDirectory(async (directory) => {
    const file = path.join(directory, 'vm.mapram');
    const precious = path.join(directory, 'precious');
    writeFileSync(precious, 'precious', { mode: 0o600 });
    linkSync(precious, partPathOf(file));
    const target = TargetFile.create(file);
    writeSync(target.fd, 'whole');
    await target.publish();
    assert.equal(readFileSync(precious, 'utf8'), 'precious');
    assert.equal(readFileSync(file, 'utf8'), 'whole');
    assert.equal(statSync(file).mode & 0o777, 0o600);
  });
});

test('who holds an earlier file in place of the part file open reads nothing of the new one (F6)', async () => {
  await inDirectory(async (directory) => {
    const file = path.join(directory, 'vm.mapram');
    for (const mode of [0o600, 0o666]) {
      writeFileSync(partPathOf(file), '', { mode });
      chmodSync(partPathOf(file), mode);
      const held = openSync(partPathOf(file), 'r');
      using target = TargetFile.create(file);
      writeSync(target.fd, 'secret');
      assert.equal(fstatSync(held).size, 0);
      closeSync(held);
    }
  });
});

test('a part file of another user, locked by that user, is replaced (F6)', {
  skip: process.getuid?.() !== 0 && 'needs root',
}, async () => {
  await inDirectory(async (directory) => {
    const file = path.join(directory, 'vm.mapram');
    writeFileSync(partPathOf(file), '', { mode: 0o600 });
    chownSync(partPathOf(file), 65_534, 65_534);
    const held = openSync(partPathOf(file), 'r');
    assert.ok(tryLock(held, 'exclusive'), 'the lock is not free');
    const target = TargetFile.create(file);
    writeSync(target.fd, 'whole');
    await target.publish();
    assert.equal(fstatSync(held).size, 0);
    assert.equal(statSync(file).uid, 0);
    closeSync(held);
  });
});

test('what cannot be removed from the place of the part file is named, and is no BUSY (F6)', async () => {
  await inDirectory((directory) => {
    const file = path.join(directory, 'vm.mapram');
    mkdirSync(partPathOf(file));
    assert.throws(() => TargetFile.create(file), failsWith('IO', /\.mapram-part is in the way/));
  });
});

test('a file that was put in place of the part file is neither published nor removed (F6)', async () => {
  await inDirectory(async (directory) => {
    const file = path.join(directory, 'vm.mapram');
    for (const force of [false, true]) {
      const target = TargetFile.create(file, { force });
      renameSync(target.partPath, path.join(directory, 'stolen'));
      writeFileSync(target.partPath, 'forged');
      await assert.rejects(() => target.publish(), failsWith('IO', /removed or replaced/));
      target.discard();
      assert.equal(existsSync(file), false);
      assert.equal(readFileSync(target.partPath, 'utf8'), 'forged');
    }
  });
});

test('part files are recognised by name', () => {
  assert.equal(targetOfPart('/a/.vm.img.mapram-part'), '/a/vm.img');
  assert.equal(targetOfPart('/a/vm.img.mapram-part'), undefined);
  assert.equal(targetOfPart('/a/..mapram-part'), undefined);
});

test('a part file goes although its name can only be removed once it is closed, and rename is refused in words (R09)', async () => {
  await inDirectory(async (directory) => {
    const file = path.join(directory, 'vm.mapram');
    writeFileSync(file, 'old');
    // As libfuse does where renaming is denied: it renames what is removed while it is open.
    using _ = installFaults([
      { call: 'rename', nth: 1, errno: 'EACCES' },
      { call: 'unlink', nth: 1, errno: 'EACCES' },
    ]);
    const target = TargetFile.create(file, { force: true });
    await assert.rejects(
      () => target.publish(),
      failsWith(
        'IO',
        /complete, but may not get this name: permission denied; the file system.*refuses to rename/,
      ),
    );
    target.discard();
    assert.deepEqual(readdirSync(directory), ['vm.mapram']);
    assert.equal(readFileSync(file, 'utf8'), 'old');
  });
});
