import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  askQemu,
  findQemuPrograms,
  newerQemuFindings,
  type QemuInstallation,
  qemuFinding,
} from '../../src/doctor/qemu-installations.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const root = temporaryFolder('doctor');

function program(directory: string, name: string, script: string, mode = 0o755): string {
  const file = path.join(root, directory, name);
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, `#!/bin/sh\n${script}\n`, { mode });
  return file;
}

const inRoot = ({ path: found }: { path: string }) => found.startsWith(root);

test('programs are found by name, once a file, however many links lead to it', () => {
  const file = program('bin', 'qemu-system-x86_64', 'exit 0');
  program('bin', 'qemu-img', 'exit 0');
  program('bin', 'qemu-system-arm', 'exit 0', 0o644);
  mkdirSync(path.join(root, 'bin', 'qemu-system-directory'));
  symlinkSync(file, path.join(root, 'bin', 'qemu-system-amd64'));
  mkdirSync(path.join(root, 'other'));
  symlinkSync(file, path.join(root, 'other', 'qemu-kvm'));
  symlinkSync('nowhere', path.join(root, 'other', 'qemu-system-mips'));
  const searchPath = [
    path.join(root, 'bin'),
    path.join(root, 'other'),
    path.join(root, 'absent'),
    'relative',
  ].join(':');
  assert.deepEqual(findQemuPrograms(searchPath).filter(inRoot), [
    {
      path: file,
      aliases: [path.join(root, 'bin', 'qemu-system-amd64'), path.join(root, 'other', 'qemu-kvm')],
    },
  ]);
});

test('a program that fails is reported with its own words', async () => {
  const file = program('broken', 'qemu-system-x86_64', 'echo "cannot find libslirp" >&2; exit 127');
  const answer = await askQemu({ path: file, aliases: [] }, new AbortController().signal);
  assert.deepEqual(answer, { path: file, aliases: [], problem: 'cannot find libslirp' });
  assert.equal(qemuFinding(answer).level, 'bad');
});

test('a program that is no QEMU is reported', async () => {
  const file = program('foreign', 'qemu-system-x86_64', 'echo hello');
  const answer = await askQemu({ path: file, aliases: [] }, new AbortController().signal);
  assert.match('problem' in answer ? answer.problem : '', /is not a QMP server/);
});

test('asking ends with the signal and leaves no process behind', async () => {
  const pidFile = path.join(root, 'pid');
  const file = program(
    'slow',
    'qemu-system-x86_64',
    `echo $$ > ${pidFile}.new; mv ${pidFile}.new ${pidFile}; exec sleep 600`,
  );
  const controller = new AbortController();
  const asked = askQemu({ path: file, aliases: [] }, controller.signal);
  asked.catch(() => {});
  while (!existsSync(pidFile)) await sleep(5);
  controller.abort(new Error('stop'));
  await assert.rejects(asked, /stop/);
  const pid = Number(readFileSync(pidFile, 'utf8'));
  assert.throws(() => process.kill(pid, 0), { code: 'ESRCH' });
});

test('advice follows from what a QEMU can do', () => {
  const qemu: QemuInstallation = {
    path: '/bin/q',
    aliases: [],
    version: '10.0.2',
    package: '',
    kvm: false,
    mappedRam: true,
    directIo: true,
    multifd: true,
    ignoreShared: true,
  };
  assert.deepEqual([qemuFinding(qemu).level, qemuFinding(qemu).subject], ['good', '/bin/q']);
  assert.match(
    qemuFinding({ ...qemu, directIo: false }).message,
    /only through the page cache; 9\.1 or later/,
  );
  assert.match(qemuFinding({ ...qemu, mappedRam: false }).message, /--method shared or stream/);
  assert.match(qemuFinding({ ...qemu, mappedRam: false, ignoreShared: false }).message, /too old/);
});

test('QEMUs that are newer than any that mapram knows get one note, and nothing is refused', () => {
  const qemu = (path: string, version: string) => ({
    path,
    aliases: [],
    version,
    package: '',
    kvm: false,
    mappedRam: true,
    directIo: true,
    multifd: true,
    ignoreShared: true,
  });
  const qemus = [qemu('/a', '11.1.9'), qemu('/b', '11.2.0'), qemu('/c', '12.0.1'), qemu('/d', '9.2.0')];
  const findings = newerQemuFindings(qemus);
  assert.deepEqual(
    findings.map(({ level }) => level),
    ['note'],
  );
  assert.match(
    findings[0]?.message ?? '',
    /^\/b \(11\.2\.0\), \/c \(12\.0\.1\): mapram knows QEMU up to 11\.1 /,
  );
});

test('a wrapper whose QEMU outlives it is not waited for', { timeout: 60_000 }, async () => {
  const file = program('wrapped', 'qemu-system-x86_64', 'echo no greeting; sleep 300; true');
  const answer = await askQemu({ path: file, aliases: [] }, AbortSignal.timeout(30_000));
  assert.match('problem' in answer ? answer.problem : '', /is not a QMP server/);
});
