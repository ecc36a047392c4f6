/** VMs are resumed by a QEMU that knows monitors as objects only: a stand-in for 11.1, over a real 10.0. */
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { ClonePool } from '../../src/snapshot/resume/clone-pool.js';
import { fork } from '../../src/snapshot/resume/fork.js';
import { resume } from '../../src/snapshot/resume/resume.js';
import { save } from '../../src/snapshot/save/save.js';
import { needs } from '../support/environment.js';
import { putQemuWithMonitorObjects } from '../support/monitor-objects.js';
import { saveMappedRam } from '../support/native-migration.js';
import { startVm } from '../support/qemu.js';
import { commandIn, consoleIn, killProcessesWith } from '../support/resumed-guest.js';
import { temporaryFolder } from '../support/temporary-folder.js';

describe('a QEMU with monitors as objects', needs({ qemu: '10.0', guest: 'tiny' }), () => {
  const folder = temporaryFolder('objects');
  const file = path.join(folder, 'vm.mapram');
  /** As it is for QEMU 10.0, with `-mon`. */
  let args: string[];
  let program: string;
  let counter: number;

  before(async () => {
    program = putQemuWithMonitorObjects(folder);
    await using vm = await startVm();
    await saveMappedRam(vm, file);
    args = commandIn(vm, folder).slice(1);
    counter = vm.console.counter;
  });
  after(() => killProcessesWith(folder));

  async function assertGoesOn(place: string): Promise<void> {
    const console = await consoleIn(place);
    await console.waitForCounterAbove(counter);
    console.close();
  }

  test('resumes a VM whose command line has -mon, which is saved and resumed again', async () => {
    const again = path.join(folder, 'again.mapram');
    {
      await using vm = await resume({ file, command: [program, ...args] });
      await assertGoesOn(folder);
      await save({ vm: vm.facts.qmp, file: again, afterwards: 'quit' });
    }
    await using vm = await resume({ file: again });
    await assertGoesOn(folder);
    assert.equal(vm.facts.runState, 'running');
  });

  test('resumes, forks and keeps ready a VM whose command line has objects', async () => {
    const command = [program, ...args].map((word, index, words) =>
      word === '-mon' ? '-object' : words[index - 1] === '-mon' ? asObject(word) : word,
    );
    assert.ok(!command.includes('-mon'));
    {
      await using _ = await resume({ file, command });
      await assertGoesOn(folder);
    }
    const directory = path.join(folder, 'clones');
    mkdirSync(directory);
    {
      await using clones = await fork({ file, count: 2, dir: directory, command, onWarning: () => {} });
      for (const { facts } of clones.vms) await assertGoesOn(path.dirname(facts.qmp));
    }
    await using pool = await ClonePool.open({ file, command, size: 1, onWarning: () => {} });
    await using vm = await pool.take();
    await assertGoesOn(vm.directory);
  });

  test('an older QEMU resumes it too', async () => {
    const command = ['-object', 'monitor-qmp,id=i,chardev=qmp'];
    const others = args.filter((word, index) => word !== '-mon' && args[index - 1] !== '-mon');
    await using vm = await startVm({ guest: 'none', paused: true });
    await using _ = await resume({ file, command: [vm.commandLine[0], ...others, ...command] });
    await assertGoesOn(folder);
  });
});

/** `chardev=C,mode=control` */
function asObject(mon: string): string {
  const [, chardev] = /^chardev=([^,]+),mode=control$/.exec(mon) ?? [];
  assert.ok(chardev);
  return `monitor-qmp,id=object-${chardev},chardev=${chardev}`;
}
