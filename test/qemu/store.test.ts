/** VMs saved into a store and started from it, where nothing of them is left: real QEMUs, and a guest that checks itself. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { inspect } from '../../src/snapshot/inspect/inspect.js';
import { restore } from '../../src/snapshot/restore/restore.js';
import { fork } from '../../src/snapshot/resume/fork.js';
import { resume } from '../../src/snapshot/resume/resume.js';
import { initStore, pruneStore, verifyStored } from '../../src/snapshot/store/manage-store.js';
import { saveToStore } from '../../src/snapshot/store/save-to-store.js';
import { TemporaryStore } from '../store/temporary-store.js';
import { startBootedVm } from '../support/booted-vm.js';
import { needs } from '../support/environment.js';
import { startVm } from '../support/qemu.js';
import { commandIn, consoleIn, killProcessesWith } from '../support/resumed-guest.js';

const files = new TemporaryStore();
const earlier = process.env.XDG_CACHE_HOME;
let caches = 0;

/** As on a host that has never seen the snapshot. */
function emptyHost(): string {
  caches += 1;
  process.env.XDG_CACHE_HOME = files.subfolder(`cache-${caches}`);
  return files.subfolder(`host-${caches}`);
}

before(() => {
  process.env.XDG_CACHE_HOME = files.subfolder('cache');
});
after(() => {
  killProcessesWith(files.folder);
  files[Symbol.dispose]();
  if (earlier === undefined) delete process.env.XDG_CACHE_HOME;
  else process.env.XDG_CACHE_HOME = earlier;
});

const quietly = { onWarning() {} };

describe('a Linux guest in a store', needs({ qemu: '10.0', guest: 'linux' }), () => {
  test('goes on elsewhere, is saved again at the cost of what changed, and goes on from that', async () => {
    await initStore({ place: files.place });
    const to = `${files.place}/vm`;
    await using vm = await startBootedVm({ memory: 'shared-file' });
    const first = await saveToStore({ vm: vm.qmpPath, to, afterwards: 'quit', ...quietly });
    const { counter, bootChecksum } = vm.console;
    assert.equal(first.file, first.pushed.address);
    assert.deepEqual(readdirSync(files.path('cache/mapram/saves')), [], 'the local part is gone');

    const host = emptyHost();
    let second: typeof first;
    {
      await using resumed = await resume({ file: to, command: commandIn(vm, host), ...quietly });
      const console = await consoleIn(host);
      await console.waitForCounterAbove(counter);
      assert.equal(await console.checksum(), bootChecksum);
      second = await saveToStore({ vm: resumed.facts.qmp, to, afterwards: 'stop', ...quietly });
      console.close();
    }
    const { pushed } = second;
    assert.equal(pushed.parent, `vm@${first.pushed.id}`);
    assert.ok(pushed.sharedBytes > pushed.dataBytes * 0.6, `${pushed.sharedBytes} of ${pushed.dataBytes}`);
    assert.ok(pushed.storedBytes < first.pushed.storedBytes * 0.6, `${pushed.storedBytes}`);
    await pruneStore({ place: files.place, keepLast: 1 });

    const other = emptyHost();
    await using resumed = await resume({ file: to, command: commandIn(vm, other), cont: true, ...quietly });
    assert.ok(existsSync(files.path(`cache-${caches}`)), `${files.path(`cache-${caches}`)} is missing`);
    const console = await consoleIn(other);
    await console.waitForCounterAbove(counter);
    assert.equal(await console.checksum(), bootChecksum);
    assert.deepEqual(console.torn, []);
    console.close();
    await resumed[Symbol.asyncDispose]();
    assert.equal((await verifyStored({ snapshot: to })).ok, true);
  });
});

describe('a small guest in a store', needs({ qemu: '10.0', guest: 'tiny' }), () => {
  test('is inspected in place, forked from one copy, and restored into a waiting QEMU', async () => {
    const place = `dir:${files.path('small')}`;
    await initStore({ place });
    const from = `${place}/vm`;
    await using vm = await startVm({});
    await saveToStore({ vm: vm.qmpPath, to: from, afterwards: 'stop', ...quietly });
    const { counter } = vm.console;
    emptyHost();
    const { complete, blocks } = await inspect({ file: from });
    assert.ok(complete && blocks.length > 0, `complete ${complete}, ${blocks.length} blocks`);
    assert.ok(!existsSync(files.path(`cache-${caches}/mapram`)), 'nothing was pulled');

    const directory = files.subfolder('clones');
    {
      await using clones = await fork({
        file: from,
        count: 2,
        dir: directory,
        command: vm.commandLine,
        cont: true,
        ...quietly,
      });
      assert.deepEqual(
        clones.vms.map(({ facts }) => facts.runState),
        ['running', 'running'],
      );
    }
    const [store = ''] = readdirSync(files.path(`cache-${caches}/mapram`));
    const copies = readdirSync(files.path(`cache-${caches}/mapram/${store}`));
    assert.equal(copies.filter((name) => !/\.(?:lock|lazy)$/.test(name)).length, 1);

    await using waiting = await startVm({ incoming: true });
    const { runState } = await restore({ file: from, vm: waiting.qmpPath, cont: true, ...quietly });
    assert.equal(runState, 'running');
    await waiting.console.waitForCounterAbove(counter);
  });

  test('whose store is not there is not touched; whose push fails is kept, and the error says where', async () => {
    await using vm = await startVm({});
    const absent = `dir:${files.path('absent')}/vm`;
    await assert.rejects(saveToStore({ vm: vm.qmpPath, to: absent, ...quietly }), /there is no store/);
    await vm.console.waitForCounterAbove();
    const place = `dir:${files.path('full')}`;
    await initStore({ place });
    // A file where a folder should be made.
    writeFileSync(files.path('full/packs'), '');
    emptyHost();
    const saving = saveToStore({ vm: vm.qmpPath, to: `${place}/vm`, ...quietly });
    await assert.rejects(saving, (error: Error) => {
      const [, kept = ''] = /the VM is saved in (\S+): push that with/.exec(error.message) ?? [];
      assert.ok(existsSync(kept), error.message);
      return true;
    });
    await vm.console.waitForCounterAbove();
  });
});
