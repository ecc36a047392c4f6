import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { checkDirectory, type DirectoryCheck, directoryFindings } from '../../src/doctor/directory-check.js';
import { failsWith } from '../support/fails-with.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const root = temporaryFolder('doctor');
const { signal } = new AbortController();

test('a directory is tried and left as it was', async () => {
  const check = await checkDirectory(root, signal);
  assert.equal(check.path, root);
  assert.ok(check.freeBytes > 0, `free bytes: ${check.freeBytes}`);
  assert.equal(check.speed?.direct, check.directIo.supported);
  assert.ok(
    (check.speed?.bytes ?? 0) > 0 && (check.speed?.bytes ?? 0) <= 256 * 2 ** 20,
    `the trial file has ${check.speed?.bytes} bytes`,
  );
  assert.ok(
    (check.speed?.writeRate ?? 0) > 0 && (check.speed?.readRate ?? 0) > 0,
    `rates ${check.speed?.writeRate} and ${check.speed?.readRate}`,
  );
  assert.deepEqual(readdirSync(root), []);
});

test('what cannot be examined is named', async () => {
  await assert.rejects(
    checkDirectory(path.join(root, 'absent'), signal),
    failsWith('IO', /absent: no such file/),
  );
  await assert.rejects(checkDirectory('/dev/null', signal), failsWith('IO', /it is not a directory/));
  await assert.rejects(checkDirectory('/proc', signal), failsWith('IO', /\/proc/));
});

test('a trial that is cancelled leaves nothing', async () => {
  const reason = new Error('stop');
  await assert.rejects(checkDirectory(root, AbortSignal.abort(reason)), reason);
  assert.deepEqual(readdirSync(root), []);
});

test('advice follows from what the directory can do', () => {
  const check: DirectoryCheck = {
    path: '/vm',
    mount: { mountPoint: '/', type: 'ext4', source: '/dev/vda' },
    freeBytes: 2 ** 40,
    directIo: { supported: true, memoryAlignment: 512, offsetAlignment: 512, how: 'statx' },
    preallocation: true,
    speed: { bytes: 1, direct: true, writeRate: 1, readRate: 1 },
  };
  const say = (change: Partial<DirectoryCheck>) =>
    directoryFindings({ ...check, ...change }).map(({ level, message }) => `${level}: ${message}`);
  assert.deepEqual(say({}), ['good: supports direct I/O']);
  assert.match(
    say({ directIo: { ...check.directIo, supported: false, reason: 'no O_DIRECT on nfs' } })[0] ?? '',
    /^note: no direct I\/O here \(no O_DIRECT on nfs\)/,
  );
  assert.match(
    say({ directIo: { ...check.directIo, offsetAlignment: 16384 } })[0] ?? '',
    /^note: .*units of 16 KiB/,
  );
  assert.match(
    say({ mount: { mountPoint: '/', type: 'tmpfs', source: 'tmpfs' } })[0] ?? '',
    /^note: this is memory/,
  );
  const { speed: _, ...full } = check;
  assert.match(directoryFindings({ ...full, freeBytes: 10 })[1]?.message ?? '', /only 10 B free/);
});
