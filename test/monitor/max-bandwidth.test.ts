/** `max-bandwidth` of migrations that mapram's engine runs. */

import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { BuiltinGuest } from '../../src/guest/builtin/builtin-guest.js';
import type { JsonObject } from '../../src/json/json-value.js';
import { BuiltinBackend } from '../../src/monitor/builtin-backend.js';
import { Monitor } from '../../src/monitor/monitor.js';
import { qemuProfile } from '../../src/options/qemu-profile.js';
import type { MigrationInfo } from '../../src/qmp/qmp-commands.js';
import { temporaryFolder } from '../support/temporary-folder.js';

/** A monitor whose save of a running guest stands still after its first pages. */
async function heldBack(t: TestContext): Promise<{ monitor: Monitor; info(): Promise<MigrationInfo> }> {
  const folder = temporaryFolder('test');
  const profile = qemuProfile('10.0');
  const guest = await BuiltinGuest.start({ size: 64 << 20, fill: 60, dirtyRate: 1 << 20 });
  const monitor = new Monitor({ backend: new BuiltinBackend(guest, { profile }), profile });
  t.after(async () => {
    await monitor.close();
    rmSync(folder, { recursive: true, force: true });
  });
  const info = async () => (await monitor.execute('query-migrate', {})) as MigrationInfo;
  await monitor.execute('migrate-set-capabilities', {
    capabilities: [{ capability: 'mapped-ram', state: true }] as unknown as JsonObject[],
  });
  await monitor.execute('migrate-set-parameters', { 'max-bandwidth': 1 });
  await monitor.execute('migrate', { uri: `file:${join(folder, 'vm.mapram')}` });
  while (!((await info()).ram?.normal ?? 0)) await sleep(5);
  return { monitor, info };
}

test('a migration is held back by it, and freed when it is raised on the way', async (t) => {
  const { monitor, info } = await heldBack(t);
  await sleep(20);
  const held = await info();
  assert.equal(held.status, 'active');
  assert.ok((held.ram?.['normal-bytes'] ?? 0) <= 4 << 20, `the value: ${held.ram?.['normal-bytes']}`);
  await monitor.execute('migrate-set-parameters', { 'max-bandwidth': 0 });
  while ((await info()).status === 'active' || (await info()).status === 'device') await sleep(5);
  assert.equal((await info()).status, 'completed');
});

test('a migration that is held back can be cancelled', async (t) => {
  const { monitor, info } = await heldBack(t);
  await monitor.execute('migrate_cancel', {});
  while ((await info()).status === 'cancelling') await sleep(5);
  assert.equal((await info()).status, 'cancelled');
  assert.deepEqual(await monitor.execute('query-status', {}), { status: 'running', running: true });
});
