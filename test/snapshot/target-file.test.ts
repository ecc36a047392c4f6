import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { MapramError } from '../../src/errors.js';
import { partPathOf, TargetFile, targetOfPart } from '../../src/snapshot/target-file.js';

async function inDirectory(body: (directory: string) => void | Promise<void>): Promise<void> {
  const directory = mkdtempSync(path.join(os.tmpdir(), 'mapram-target-'));
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
    assert.equal(statSync(partPathOf(file)).size, 0, 'what a dead writer left is emptied');
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

test('a symbolic link in place of the part file is not followed', async () => {
  await inDirectory(async (directory) => {
    const file = path.join(directory, 'vm.mapram');
    writeFileSync(path.join(directory, 'victim'), 'precious');
    symlinkSync(path.join(directory, 'victim'), partPathOf(file));
    assert.throws(() => TargetFile.create(file), failsWith('IO', /ELOOP/));
    assert.equal(readFileSync(path.join(directory, 'victim'), 'utf8'), 'precious');
  });
});

test('part files are recognised by name', () => {
  assert.equal(targetOfPart('/a/.vm.img.mapram-part'), '/a/vm.img');
  assert.equal(targetOfPart('/a/vm.img.mapram-part'), undefined);
  assert.equal(targetOfPart('/a/..mapram-part'), undefined);
});
