/** What is saved through a monitor carries a manifest, too. */

import assert from 'node:assert/strict';
import { constants, openSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { BuiltinGuest } from '../../src/guest/builtin/builtin-guest.js';
import type { JsonObject } from '../../src/json/json-value.js';
import { BuiltinBackend } from '../../src/monitor/builtin-backend.js';
import { Monitor } from '../../src/monitor/monitor.js';
import { qemuProfile } from '../../src/options/qemu-profile.js';
import type { MigrationInfo } from '../../src/qmp/qmp-commands.js';
import { inspect } from '../../src/snapshot/inspect/inspect.js';
import { verify } from '../../src/snapshot/verify/verify.js';
import { temporaryFolder } from '../support/temporary-folder.js';

async function start(t: TestContext) {
  const folder = temporaryFolder('test');
  const profile = qemuProfile('10.0');
  const guest = await BuiltinGuest.start({ size: 16 << 20, fill: 20 });
  const monitor = new Monitor({ backend: new BuiltinBackend(guest, { profile }), profile });
  t.after(async () => {
    await monitor.close();
    rmSync(folder, { recursive: true, force: true });
  });
  await monitor.execute('migrate-set-capabilities', {
    capabilities: ['mapped-ram', 'multifd'].map((capability) => ({
      capability,
      state: true,
    })) as unknown as JsonObject[],
  });
  const save = async (uri: string) => {
    await monitor.execute('migrate', { uri });
    for (;;) {
      const info = (await monitor.execute('query-migrate', {})) as MigrationInfo;
      if (info.status === 'completed') return;
      assert.notEqual(info.status, 'failed', info['error-desc']);
      await sleep(5);
    }
  };
  return { folder, guest, monitor, save };
}

async function assertSealed(file: string): Promise<void> {
  const { manifest } = await inspect({ file });
  assert.equal((manifest as { runState: string } | undefined)?.runState, 'running');
  const { ok, problems, checkedBytes } = await verify({ file });
  assert.deepEqual(problems, []);
  assert.ok(ok && checkedBytes > 0, `ok ${ok}, ${checkedBytes} bytes checked`);
}

test('a file', async (t) => {
  const { folder, save } = await start(t);
  const file = join(folder, 'vm.mapram');
  await save(`file:${file}`);
  await assertSealed(file);
});

test('behind an offset', async (t) => {
  const { folder, save } = await start(t);
  const file = join(folder, 'vm.mapram');
  await save(`file:${file},offset=0x1000`);
  const { ok, checkedBytes } = await verify({ file, offset: 0x1000 });
  assert.ok(ok && checkedBytes > 0, `ok ${ok}, ${checkedBytes} bytes checked`);
});

test('descriptors that can only be written to', async (t) => {
  const { folder, monitor, save } = await start(t);
  const file = join(folder, 'vm.mapram');
  const fd = openSync(file, constants.O_WRONLY | constants.O_CREAT, 0o600);
  await monitor.addFd(fd, 1, undefined, {});
  await save('file:/dev/fdset/1');
  await assertSealed(file);
});
