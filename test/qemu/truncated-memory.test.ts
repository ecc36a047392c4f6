/** A QEMU whose RAM file is cut short while it is saved. */

import assert from 'node:assert/strict';
import { existsSync, rmSync, statSync, truncateSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { MapramError } from '../../src/errors.js';
import { installFaults } from '../../src/io/faults.js';
import { partPathOf } from '../../src/snapshot/files/target-file.js';
import { save } from '../../src/snapshot/save/save.js';
import { needs } from '../support/environment.js';
import { startVm } from '../support/qemu.js';
import { temporaryFolder } from '../support/temporary-folder.js';

function sizeOf(file: string): number {
  return statSync(file, { throwIfNoEntry: false })?.size ?? 0;
}

describe('RAM that is cut short while it is saved', needs({ qemu: '10.0', guest: 'tiny' }), () => {
  for (const directIo of ['on', 'off'] as const) {
    test(`is an error that names its file, and this process lives: direct I/O ${directIo} (F10)`, async () => {
      const folder = temporaryFolder('truncated');
      try {
        await using vm = await startVm({ memory: 'shared-file' });
        const [memory] = vm.memoryFiles as [string];
        const file = path.join(folder, 'vm');
        // Long enough for the file to be cut between two writes.
        using faults = installFaults([
          { call: 'write', nth: 1, times: Number.POSITIVE_INFINITY, delayMs: 100 },
        ]);
        const saving = save({ vm: vm.qmpPath, file, method: 'shared', channels: 1, directIo });
        saving.catch(() => {});
        // The file gets its size when RAM is about to be written.
        while (sizeOf(partPathOf(file)) < statSync(memory).size) await sleep(1);
        truncateSync(memory, 0);
        await assert.rejects(saving, (error: unknown) => {
          assert.ok(error instanceof MapramError, String(error));
          assert.equal(error.code, 'VM');
          assert.equal(error.path, memory);
          assert.match(error.message, /cut short to 0 bytes/);
          return true;
        });
        assert.ok(faults.counts().write > 0, 'no write failed');
        assert.ok(!existsSync(file), `${file} is still there`);
      } finally {
        rmSync(folder, { recursive: true, force: true });
      }
    });
  }
});
