/** Saves of VMs that do not run: in each state that QEMU has, and what becomes of them. The long form is `npm run soak -- states`. */

import assert from 'node:assert/strict';
import path from 'node:path';
import { before, describe, test } from 'node:test';
import { fork } from '../../src/snapshot/resume/fork.js';
import { save } from '../../src/snapshot/save/save.js';
import { needs } from '../support/environment.js';
import { failsWith } from '../support/fails-with.js';
import { LOADABLE_STATES, startSleepingVm, startVmIn } from '../support/run-state-vm.js';
import { temporaryFolder } from '../support/temporary-folder.js';
import { saveInState } from '../trust/run-states.js';

let folder: string;
before(() => {
  folder = temporaryFolder('states');
});

describe('a VM of QEMU 10.0 that is saved', needs({ qemu: '10.0' }), () => {
  for (const state of [...LOADABLE_STATES, 'inmigrate', 'debug', 'save-vm'] as const) {
    test(`in the state ${state} is afterwards as before, or the save is refused (R21)`, async () => {
      await saveInState(state, '10.0', 'auto', undefined, folder);
    });
  }

  for (const way of ['shared', 'stream', 'background'] as const) {
    test(`paused by ${way} is paused again, and saved twice (R21)`, async () => {
      await saveInState('paused', '10.0', way, undefined, folder);
    });
  }

  test('by native where that would leave it in postmigrate is refused, unless it is to stop (R21)', async () => {
    await saveInState('paused', '10.0', 'native', undefined, folder);
    await saveInState('paused', '10.0', 'native', 'stop', folder);
  });

  test('in the background in a state that QEMU does not survive that in is refused (R21)', async () => {
    await saveInState('io-error', '10.0', 'background', undefined, folder);
  });
});

describe('a VM of QEMU 7.2 that is saved', needs({ qemu: '7.2' }), () => {
  for (const then of [undefined, 'cont', 'stop'] as const) {
    test(`paused, then ${then ?? 'as before'} (R21)`, async () => {
      await saveInState('paused', '7.2', 'shared', then, folder);
    });
  }
});

describe('a guest that sleeps (S3)', needs({ qemu: '10.0' }), () => {
  for (const method of ['shared', 'stream'] as const) {
    test(`sleeps on after a save by ${method}, wakes up, and sleeps in the file (R21)`, async () => {
      const file = path.join(folder, `asleep-${method}`);
      {
        await using vm = await startSleepingVm('10.0', folder);
        const { runState } = await save({ vm: vm.qmpPath, file, method });
        assert.equal(runState, 'suspended');
        await vm.qmp.execute('system_wakeup');
        await vm.qmp.waitForEvent('WAKEUP');
        assert.equal(vm.ended, false);
      }
      await using copies = await fork({ file, count: 1 });
      assert.equal(copies.vms[0]?.facts.runState, 'suspended');
    });
  }

  test('is not continued by a save: that is refused before anything is touched (R21)', async () => {
    await using vm = await startSleepingVm('10.0', folder);
    for (const method of ['auto', 'native', 'shared', 'stream'] as const) {
      await assert.rejects(
        save({ vm: vm.qmpPath, file: path.join(folder, 'never'), method, afterwards: 'cont' }),
        failsWith('VM', /asleep \(S3\), wake it first with "system_wakeup"/),
      );
    }
    assert.equal(await vm.status(), 'suspended');
  });

  test('and was stopped then: QEMU’s own migration is not followed by a cont that ends it (R21)', async () => {
    await using vm = await startSleepingVm('10.0', folder);
    await vm.stop();
    assert.equal(await vm.status(), 'paused');
    const warnings: string[] = [];
    const { runState } = await save({
      vm: vm.qmpPath,
      file: path.join(folder, 'stopped-asleep'),
      method: 'native',
      afterwards: 'cont',
      onWarning: (text) => warnings.push(text),
    });
    assert.equal(runState, 'postmigrate');
    assert.match(warnings.join('\n'), /asleep \(S3\)/);
    assert.equal(await vm.status(), 'postmigrate');
  });
});

test('a VM that is not to be had back is told so in words', needs({ qemu: '7.2' }), async () => {
  await using vm = await startVmIn('paused', '7.2', folder);
  await assert.rejects(
    save({ vm: vm.qmpPath, file: path.join(folder, 'refused') }),
    failsWith('VM', /would leave it in the state postmigrate .* --then stop or --then quit/),
  );
});
