/** VMs that talk to another program when they start. */

import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { createServer } from 'node:net';
import path from 'node:path';
import { describe, test } from 'node:test';
import { fork } from '../../src/snapshot/resume/fork.js';
import { resume } from '../../src/snapshot/resume/resume.js';
import { save } from '../../src/snapshot/save/save.js';
import { needs } from '../support/environment.js';
import { failsWith } from '../support/fails-with.js';
import { startVm } from '../support/qemu.js';
import { temporaryFolder } from '../support/temporary-folder.js';

describe('a VM that connects to a program', needs({ qemu: '10.0', guest: 'tiny' }), () => {
  test('is not forked, and names the program that is missing when it is resumed (R05, failure 10)', async () => {
    const peer = createServer((connection) => connection.on('error', () => {}));
    const folder = temporaryFolder('client');
    const address = path.join(folder, 'peer');
    await new Promise<void>((resolve) => peer.listen(address, resolve));
    try {
      await using vm = await startVm({
        extraArgs: [
          ...['-chardev', `socket,id=agent,path=${address}`, '-device', 'virtio-serial'],
          ...['-device', 'virtserialport,chardev=agent'],
        ],
      });
      const file = path.join(vm.folder, 'vm.mapram');
      await save({ vm: vm.qmpPath, file, afterwards: 'quit' });
      await assert.rejects(
        fork({ file, count: 2 }),
        failsWith('UNSUPPORTED', /chardev agent connects to a socket of another program, \S+peer/),
      );
      await new Promise((resolve) => peer.close(resolve));
      await assert.rejects(
        resume({ file, onWarning: () => {} }),
        failsWith('VM', /Failed to connect to .*start the program that serves chardev agent there first/),
      );
    } finally {
      peer.close();
      rmSync(folder, { recursive: true });
    }
  });
});
