import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { findSockets } from '../../src/ui/socket-finder.js';
import { needs } from '../support/environment.js';
import { startVm, type TestVm } from '../support/qemu.js';
import { QmpSession } from '../support/qmp-session.js';
import { choose, launchBrowser, OpenPage } from '../ui/open-page.js';
import { TestUi } from '../ui/ui-client.js';

const tools = ['setpriv'];

async function state(ui: TestUi) {
  await ui.ask('api/refresh', { body: {} });
  return (await ui.ask('api/state')).json;
}

async function vmState(ui: TestUi, address: string) {
  return (await state(ui)).vms.find((vm: { address: string }) => vm.address === address);
}

/** Ends a VM that outlives the test's own. */
async function quit(socket: string): Promise<void> {
  const session = await QmpSession.open(socket);
  await session.execute('quit').catch(() => {});
  session.close();
}

function uiFor(...vms: TestVm[]): Promise<TestUi> {
  return TestUi.start({ sockets: vms.map(({ qmpPath }) => qmpPath) });
}

test(
  'the monitors of a running QEMU are found, its other sockets are not',
  needs({ qemu: '10.0', guest: 'tiny', tools }),
  async () => {
    await using vm = await startVm({ paused: true });
    const found = findSockets([vm.folder], true).filter(
      ({ path: socket }) => path.dirname(socket) === vm.folder,
    );
    assert.deepEqual(
      found.map(({ path: socket, pid }) => [path.basename(socket), pid]),
      [
        ['qmp.sock', vm.pid],
        ['test-qmp.sock', vm.pid],
      ],
    );
  },
);

test(
  'a QEMU is shown, saved, verified and restored into another one',
  needs({ qemu: '10.0', guest: 'tiny', tools }),
  async () => {
    await using vm = await startVm({ memory: 'shared-file' });
    await using waiting = await startVm({ memory: 'shared-file', incoming: true });
    await using ui = await uiFor(vm, waiting);
    const [shown, target] = [await vmState(ui, vm.qmpPath), await vmState(ui, waiting.qmpPath)];
    assert.deepEqual([shown.monitor, shown.runState, shown.pid], ['open', 'running', vm.pid]);
    assert.match(shown.machine, /^pc-q35-/);
    assert.deepEqual([target.runState, target.waiting], ['inmigrate', true]);

    const saved = await ui.run({
      kind: 'save',
      vm: vm.qmpPath,
      directory: ui.directory,
      name: 'vm.mapram',
      channels: 3,
      afterwards: 'stop',
    });
    assert.equal(saved.state, 'done', saved.error?.message);
    assert.equal((saved.result as { method: string }).method, 'shared');
    const { saved: files } = await state(ui);
    assert.deepEqual([files[0].state, files[0].manifest.launch], ['complete', true]);
    const verified = await ui.run({ kind: 'verify', file: ui.file('vm.mapram') });
    assert.deepEqual([verified.state, verified.verdict], ['done', undefined]);

    const restored = await ui.run({ kind: 'restore', file: ui.file('vm.mapram'), vm: waiting.qmpPath });
    assert.equal(restored.state, 'done', restored.error?.message);
    await waiting.console.waitForCounterAbove(0);
    assert.equal((await vmState(ui, waiting.qmpPath)).runState, 'running');
  },
);

test(
  'parameters and capabilities are set, and refused in the words of QEMU',
  needs({ qemu: '10.0', guest: 'tiny', tools }),
  async () => {
    await using vm = await startVm({ paused: true });
    await using ui = await uiFor(vm);
    const changed = await ui.ask('api/monitor', {
      body: {
        vm: vm.qmpPath,
        capabilities: { 'mapped-ram': true, multifd: true },
        parameters: { 'direct-io': true, 'multifd-channels': '5' },
      },
    });
    assert.equal(changed.status, 200, changed.text);
    assert.equal(changed.json.directIo, true);
    const parameters = await vm.qmp.execute<Record<string, unknown>>('query-migrate-parameters');
    assert.deepEqual([parameters['direct-io'], parameters['multifd-channels']], [true, 5]);
    const refused = await ui.ask('api/monitor', {
      body: { vm: vm.qmpPath, parameters: { 'multifd-channels': '0' } },
    });
    assert.equal(refused.status, 422);
    assert.match(refused.json.error.message, /multifd.channels.*between 1 and 255/);
  },
);

test(
  'a monitor that somebody else holds is busy, and free again afterwards',
  needs({ qemu: '10.0', guest: 'tiny', tools }),
  async () => {
    await using vm = await startVm({ paused: true });
    await using ui = await uiFor(vm);
    const other = await QmpSession.open(vm.qmpPath);
    assert.equal((await vmState(ui, vm.qmpPath)).monitor, 'busy');
    const refused = await ui.ask(`api/monitor?vm=${encodeURIComponent(vm.qmpPath)}`);
    assert.deepEqual([refused.status, refused.json.error.code], [409, 'BUSY']);
    other.close();
    const freed = await vmState(ui, vm.qmpPath);
    assert.deepEqual([freed.monitor, freed.runState], ['open', 'prelaunch']);
  },
);

test(
  'a saved VM is resumed as its file says, once that was confirmed, and forked',
  needs({ qemu: '10.0', guest: 'tiny', tools: [...tools, 'qemu-img'] }),
  async () => {
    await using vm = await startVm();
    await using ui = await uiFor(vm);
    const file = ui.file('vm.mapram');
    const saved = await ui.run({
      kind: 'save',
      vm: vm.qmpPath,
      directory: ui.directory,
      name: 'vm.mapram',
      afterwards: 'quit',
    });
    assert.equal(saved.state, 'done', saved.error?.message);
    await vm.exited;
    await state(ui);

    const plan = (await ui.ask(`api/plan?file=${encodeURIComponent(file)}`)).json;
    assert.match(plan.command[0], /qemu-system-x86_64$/);
    assert.equal(plan.qmp, vm.qmpPath);
    const { fingerprint: confirmed, qmp } = plan;
    const other = await ui.run({ kind: 'resume', file, confirmed: '0'.repeat(64) });
    assert.equal(other.state, 'failed');
    assert.match(other.error?.message ?? '', /not be the command line that was shown/);

    const resumed = await ui.run({ kind: 'resume', file, confirmed });
    assert.equal(resumed.state, 'done', resumed.error?.message);
    try {
      const { pid } = resumed.result as { pid: number };
      assert.deepEqual([(await vmState(ui, qmp)).runState, (await vmState(ui, qmp)).pid], ['running', pid]);
    } finally {
      await quit(qmp);
    }

    const forked = await ui.run({
      kind: 'fork',
      file,
      confirmed,
      count: 2,
      directory: ui.directory,
      name: 'clones',
    });
    assert.equal(forked.state, 'done', forked.error?.message);
    const clones = (forked.result as { vms: { qmp: string }[] }).vms.map((clone) => clone.qmp);
    try {
      assert.equal(clones.length, 2);
      for (const clone of clones) {
        assert.ok(clone.startsWith(ui.file('clones')), clone);
        assert.equal((await vmState(ui, clone)).runState, 'running');
      }
    } finally {
      for (const clone of clones) await quit(clone);
    }
  },
);

test(
  'a VM is saved, resumed and forked in a browser, after the command line was shown',
  needs({ qemu: '10.0', guest: 'tiny', tools: [...tools, 'qemu-img', 'chromium'] }),
  async () => {
    await using vm = await startVm({ memory: 'shared-file', extraArgs: ['-name', '<b>guest</b>'] });
    await using ui = await uiFor(vm);
    await using browser = await launchBrowser();
    await using opened = await OpenPage.open(browser, ui);
    const { page } = opened;
    await page.getByRole('rowheader', { name: '<b>guest</b>' }).waitFor();
    await page.getByRole('button', { name: `Save ${vm.qmpPath}` }).click();
    await page.getByLabel('File name').fill('vm.mapram');
    await page.getByLabel('Afterwards').selectOption('quit');
    await page.getByRole('button', { name: 'Save', exact: true }).click();
    await page.getByText('done').first().waitFor();
    await vm.exited;

    await page.getByRole('button', { name: 'Resume vm.mapram' }).click();
    await page
      .locator('pre.command')
      .getByText(/-name '<b>guest<\/b>'/)
      .waitFor();
    await opened.assertAccessible();
    await page.getByRole('button', { name: 'Resume', exact: true }).click();
    try {
      const row = page.getByRole('row').filter({ hasText: '<b>guest</b>' });
      await page.getByRole('listitem').filter({ hasText: 'Resume' }).getByText('done').waitFor();
      await row.getByText('running').waitFor();
    } finally {
      await quit(vm.qmpPath);
    }

    await choose(page, 'vm.mapram', 'Fork');
    await page.getByLabel('Folders').selectOption(ui.directory);
    await opened.assertAccessible();
    await page.getByRole('button', { name: 'Fork', exact: true }).click();
    await page.getByRole('listitem').filter({ hasText: 'into 2' }).getByText('done').waitFor();
    try {
      for (const clone of ['clone-1', 'clone-2']) {
        await page.getByRole('row').filter({ hasText: clone }).getByText('running').waitFor();
      }
      // A clone that is ended takes its folder with it.
      const clone = path.join(ui.directory, 'vm-clones', 'clone-1');
      await choose(page, path.join(clone, 'qmp.sock'), 'End');
      await page.getByRole('dialog').getByRole('button', { name: 'End VM' }).click();
      await page.getByRole('row').filter({ hasText: clone }).waitFor({ state: 'detached' });
      assert.equal(existsSync(clone), false);
    } finally {
      const { vms } = await state(ui);
      for (const { address } of vms) if (address.startsWith(ui.directory)) await quit(address);
    }
  },
);
