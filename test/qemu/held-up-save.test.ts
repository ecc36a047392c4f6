/** Saves that are held up while their guest is paused. */
import assert from 'node:assert/strict';
import path from 'node:path';
import { describe, test } from 'node:test';
import { installFaults } from '../../src/io/faults.js';
import { save } from '../../src/snapshot/save/save.js';
import { needs } from '../support/environment.js';
import { startVm } from '../support/qemu.js';

/** Longer than a process that runs is ever late. */
const HELD_UP_MS = 7000;

describe('a save that is held up while the guest is paused', needs({ qemu: '10.0', guest: 'tiny' }), () => {
  for (const method of ['shared', 'stream'] as const) {
    test(`says so: ${method} (F30)`, async () => {
      await using vm = await startVm({ memory: 'shared-file' });
      // Long enough for progress to be reported before the last page.
      using _ = installFaults([{ call: 'write', nth: 1, times: 10, delayMs: 300 }]);
      const warnings: string[] = [];
      let held = false;
      await save({
        ...{ vm: vm.qmpPath, file: path.join(vm.folder, 'vm'), method, channels: 1 },
        onWarning: (warning) => warnings.push(warning),
        onProgress: () => {
          if (!held) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, HELD_UP_MS);
          held = true;
        },
      });
      assert.ok(held);
      assert.ok(
        warnings.some((warning) =>
          /mapram did not run for \d+ s, and the guest was paused as long/.test(warning),
        ),
        JSON.stringify(warnings),
      );
    });
  }
});
