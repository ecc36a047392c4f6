/** Which process is that of a monitor: it is looked into, and its memory is written to. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync } from 'node:fs';
import { after, test } from 'node:test';
import { QemuVm } from '../../../src/guest/qemu/qemu-vm.js';
import type { QmpClient } from '../../../src/qmp/qmp-client.js';
import { Folder } from '../../manifest/sample.js';

const folder = new Folder();
after(() => folder[Symbol.dispose]());
const user = process.geteuid?.() ?? 0;

/** A VM at whose socket `listener` listened, with the process number that the kernel noted then. */
function vmBehind(pid: number, listener: number): QemuVm {
  const client = {
    name: 'made',
    peer: { pid, uid: listener, gid: 0 },
    version: { qemu: { major: 10, minor: 0, micro: 0 } },
  };
  return QemuVm.over(client as unknown as QmpClient);
}

test('a process is that of the monitor only where one of its users listened, or root did (F1)', async () => {
  const program = folder.file('qemu-system-x86_64');
  copyFileSync('/bin/sleep', program);
  const child = spawn(program, ['1000'], { stdio: 'ignore' });
  try {
    await once(child, 'spawn');
    const pid = child.pid as number;
    assert.equal(vmBehind(pid, user).peerPid(), pid);
    // QEMU drops its rights after it has begun to listen (-runas).
    assert.equal(vmBehind(pid, 0).peerPid(), pid);
    // The number of a process that has ended came to mean one of this user.
    assert.equal(vmBehind(pid, user + 4242).peerPid(), undefined);
  } finally {
    child.kill('SIGKILL');
  }
});
