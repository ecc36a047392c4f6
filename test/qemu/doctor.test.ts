import assert from 'node:assert/strict';
import { test } from 'node:test';
import { askQemu, type QemuInstallation, qemuFinding } from '../../src/doctor/qemu-installations.js';
import { needs, type QemuName, qemuProgram } from '../support/environment.js';

async function ask(name: QemuName): Promise<QemuInstallation> {
  const answer = await askQemu(
    { path: qemuProgram(name).program, aliases: [] },
    new AbortController().signal,
  );
  assert.ok('version' in answer, JSON.stringify(answer));
  assert.equal(answer.version, qemuProgram(name).version);
  return answer;
}

test('QEMU 10.0 has everything', needs({ qemu: '10.0' }), async () => {
  const { mappedRam, directIo, multifd, ignoreShared, ...rest } = await ask('10.0');
  assert.deepEqual([mappedRam, directIo, multifd, ignoreShared], [true, true, true, true]);
  assert.equal(qemuFinding({ mappedRam, directIo, multifd, ignoreShared, ...rest }).level, 'good');
});

test('QEMU 7.2 can only be saved from', needs({ qemu: '7.2' }), async () => {
  const { mappedRam, directIo, multifd, ignoreShared, ...rest } = await ask('7.2');
  assert.deepEqual([mappedRam, directIo, multifd, ignoreShared], [false, false, true, true]);
  assert.match(
    qemuFinding({ mappedRam, directIo, multifd, ignoreShared, ...rest }).message,
    /--method shared or stream/,
  );
});
