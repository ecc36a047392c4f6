/** VMs with an emulated TPM: its state is in the file, and a new swtpm gets it from there. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { fork } from '../../src/snapshot/resume/fork.js';
import { resume } from '../../src/snapshot/resume/resume.js';
import { save } from '../../src/snapshot/save/save.js';
import { needs } from '../support/environment.js';
import { failsWith } from '../support/fails-with.js';
import { startVm } from '../support/qemu.js';
import { temporaryFolder } from '../support/temporary-folder.js';

describe('a VM with a TPM', needs({ qemu: '10.0', guest: 'tiny', tools: ['swtpm'] }), () => {
  const folder = temporaryFolder('tpm');
  const socket = path.join(folder, 'tpm.sock');
  const stateOf = (name: string): Buffer => readFileSync(path.join(folder, name, 'tpm2-00.permall'));

  /** As docs/resume-and-fork.md starts it. It ends with its VM. */
  async function startTpm(name: string): Promise<ChildProcess> {
    const state = path.join(folder, name);
    mkdirSync(state);
    const control = `type=unixio,path=${socket}`;
    const child = spawn('swtpm', ['socket', '--tpm2', '--tpmstate', `dir=${state}`, '--ctrl', control], {
      stdio: 'ignore',
    });
    while (!existsSync(socket)) {
      assert.equal(child.exitCode, null, 'swtpm has ended');
      await delay(20);
    }
    return child;
  }
  const ended = async (child: ChildProcess): Promise<void> => {
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
  };

  test('is resumed with a new swtpm, which has the state of the old one, and is not forked (R05)', async () => {
    const first = await startTpm('first');
    const file = path.join(folder, 'vm');
    await using vm = await startVm({
      extraArgs: [
        ...['-chardev', `socket,id=chr,path=${socket}`, '-tpmdev', 'emulator,id=tpm,chardev=chr'],
        ...['-device', 'tpm-tis,tpmdev=tpm'],
      ],
    });
    await save({ vm: vm.qmpPath, file, afterwards: 'quit' });
    await ended(first);
    await assert.rejects(
      resume({ file, onWarning: () => {} }),
      failsWith('VM', /start a TPM there first.*swtpm socket --tpm2 --tpmstate dir=DIR/),
    );
    const second = await startTpm('second');
    try {
      await assert.rejects(fork({ file, count: 2 }), failsWith('UNSUPPORTED', /its TPM is the swtpm at/));
      const resumed = await resume({ file, onWarning: () => {} });
      assert.equal(resumed.facts.runState, 'running');
      assert.ok(stateOf('second').equals(stateOf('first')), 'the TPM has another state');
      await resumed[Symbol.asyncDispose]();
      await ended(second);
    } finally {
      second.kill();
    }
  });
});
