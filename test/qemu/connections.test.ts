/** A service keeps its connections: they, and VMs that it has resumed, are what can be saved and loaded into. */

import assert from 'node:assert/strict';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { QmpClient } from '../../src/qmp/qmp-client.js';
import { restore } from '../../src/snapshot/restore/restore.js';
import { resume } from '../../src/snapshot/resume/resume.js';
import { save } from '../../src/snapshot/save/save.js';
import { verify } from '../../src/snapshot/verify/verify.js';
import { needs } from '../support/environment.js';
import { failsWith } from '../support/fails-with.js';
import { startVm, type TestVm } from '../support/qemu.js';
import { killProcessesWith } from '../support/resumed-guest.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const quiet = { onWarning: () => {} };

describe('connections of the caller', needs({ qemu: '10.0', guest: 'tiny' }), () => {
  let folder: string;
  let vm: TestVm;
  let client: QmpClient;
  before(async () => {
    folder = temporaryFolder('connections');
    vm = await startVm({ memory: 'shared-file' });
    client = await QmpClient.connect(vm.qmpPath);
  });
  after(async () => {
    await client?.close();
    await vm?.[Symbol.asyncDispose]();
    killProcessesWith(folder);
  });

  for (const method of ['shared', 'native', 'stream'] as const)
    test(`a connected QmpClient is saved through, by ${method}, and sees the events (B6)`, async () => {
      const file = path.join(folder, `${method}.mapram`);
      const events = client.events({ names: ['STOP', 'RESUME'] });
      const result = await save({ vm: client, file, method, ...quiet });
      assert.deepEqual([result.method, result.runState], [method, 'running']);
      assert.equal((await events.next()).value.event, 'STOP');
      assert.equal((await events.next()).value.event, 'RESUME');
      await events.return?.();
      assert.equal(client.closed, false);
      assert.equal((await client.execute('query-status')).status, 'running');
      assert.equal((await verify({ file })).ok, true);
    });

  test('a save that is cancelled leaves the connection open', async () => {
    const abort = new AbortController();
    await assert.rejects(
      save({
        vm: client,
        file: path.join(folder, 'never.mapram'),
        method: 'shared',
        signal: abort.signal,
        onProgress: () => abort.abort(),
        ...quiet,
      }),
      failsWith('CANCELLED'),
    );
    assert.equal((await client.execute('query-status')).status, 'running');
  });

  test('a file is loaded through a connection that was there', async () => {
    await using waiting = await startVm({ memory: 'shared-file', incoming: true });
    await using own = await QmpClient.connect(waiting.qmpPath);
    await restore({ file: path.join(folder, 'shared.mapram'), vm: own, ...quiet });
    assert.equal((await own.execute('query-status')).status, 'running');
    await waiting.console.waitForCounterAbove(vm.console.counter);
  });

  test('a ResumedVm is stopped, continued, asked, saved and goes on (B6)', async () => {
    const file = path.join(folder, 'last.mapram');
    await save({ vm: client, file, afterwards: 'quit', ...quiet });
    await using resumed = await resume({
      file,
      command: vm.commandLine,
      qmp: path.join(folder, 'resumed.qmp'),
      trust: true,
      ...quiet,
    });
    assert.equal(resumed.directory, folder);
    await resumed.stop();
    assert.equal((await resumed.qmp().execute('query-status')).status, 'paused');
    await resumed.cont();
    for (const method of ['incremental', 'native', 'stream'] as const) {
      const again = path.join(folder, `again-${method}.mapram`);
      const result = await save({ vm: resumed, file: again, method, ...quiet });
      assert.deepEqual([result.method, result.runState], [method, 'running']);
      assert.equal((await verify({ file: again })).ok, true);
    }
    assert.equal((await resumed.qmp().execute('query-status')).status, 'running');
  });
});
