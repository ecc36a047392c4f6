/** Clones of real QEMUs are confined: what /proc says of them, not what their command line does. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, rmdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { MapramError } from '../../src/errors.js';
import { fork } from '../../src/snapshot/resume/fork.js';
import { needs } from '../support/environment.js';
import { saveMappedRam } from '../support/native-migration.js';
import { startVm } from '../support/qemu.js';
import { consoleIn, killProcessesWith } from '../support/resumed-guest.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const NOBODY = '65534';

function statusOf(pid: number, member: string): string {
  return new RegExp(`^${member}:\\s*(.*)$`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? '';
}

/** Where a cgroup can be made here, of either version. */
const parent = ['/sys/fs/cgroup', '/sys/fs/cgroup/unified', '/sys/fs/cgroup/pids'].find((directory) => {
  const trial = path.join(directory, `mapram-trial-${process.pid}`);
  try {
    mkdirSync(trial);
    const usable = existsSync(path.join(trial, 'cgroup.procs'));
    rmdirSync(trial);
    return usable;
  } catch {
    return false;
  }
});

describe('confined VMs', needs({ qemu: '10.0', guest: 'tiny' }), () => {
  let folder: string;
  let file: string;
  let command: string[];

  before(async () => {
    folder = temporaryFolder('confinement-test');
    file = path.join(folder, 'vm.mapram');
    await using vm = await startVm();
    await saveMappedRam(vm, file, { channels: 2 });
    command = [...vm.commandLine];
  });
  after(() => {
    killProcessesWith(folder);
    rmSync(folder, { recursive: true, force: true });
  });

  test('a clone in a sandbox runs with a filter for system calls and cannot gain privileges', async () => {
    await using clones = await fork({ file, command, count: 1, sandbox: true, dir: path.join(folder, 'a') });
    const [clone] = clones.vms;
    assert.ok(clone);
    assert.equal(statusOf(clone.pid, 'Seccomp'), '2');
    assert.equal(statusOf(clone.pid, 'NoNewPrivs'), '1');
    const console = await consoleIn(path.dirname(clone.facts.qmp));
    try {
      await console.waitForCounterAbove(0);
    } finally {
      console.close();
    }
  });

  test('a clone becomes another user before its guest runs, in a sandbox and without', async (t) => {
    if (process.getuid?.() !== 0) return t.skip('only root can change the user of a process');
    for (const sandbox of [false, true]) {
      const dir = path.join(folder, `user-${sandbox}`);
      await using clones = await fork({ file, command, count: 1, sandbox, user: 'nobody', dir });
      const [clone] = clones.vms;
      assert.ok(clone);
      assert.deepEqual(new Set(statusOf(clone.pid, 'Uid').split(/\s+/)), new Set([NOBODY]));
      assert.deepEqual(new Set(statusOf(clone.pid, 'Gid').split(/\s+/)), new Set([NOBODY]));
      assert.equal(statusOf(clone.pid, 'Seccomp'), sandbox ? '2' : '0');
      assert.equal(clone.facts.runState, 'running');
    }
    assert.equal(existsSync(path.join(folder, 'user-true', 'clone-1')), false, 'its folder goes with it');
  });

  test('clones are put into a cgroup', async (t) => {
    if (parent === undefined) return t.skip('no cgroup can be made here');
    const cgroup = path.join(parent, `mapram-test-${process.pid}`);
    mkdirSync(cgroup);
    try {
      {
        await using clones = await fork({ file, command, count: 2, cgroup, dir: path.join(folder, 'c') });
        const members = readFileSync(path.join(cgroup, 'cgroup.procs'), 'utf8')
          .trim()
          .split('\n')
          .map(Number);
        assert.deepEqual(members.sort(), clones.vms.map(({ pid }) => pid).sort());
      }
    } finally {
      rmdirSync(cgroup);
    }
  });

  test('a cgroup that is none and a user that is no name are refused before anything is started', async () => {
    const refused = (more: object, problem: RegExp) =>
      assert.rejects(
        fork({ file, command, count: 1, dir: path.join(folder, 'none'), ...more }),
        (error) => error instanceof MapramError && error.code === 'USAGE' && problem.test(error.message),
      );
    await refused({ cgroup: folder }, /it is not a cgroup/);
    await refused({ user: 'nobody,chroot=/' }, /give NAME or UID:GID|only root/);
    assert.equal(existsSync(path.join(folder, 'none')), false);
  });
});
