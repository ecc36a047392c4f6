/** Live saves of a guest that changes its memory faster than it is sent: limits, and what happens at them. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { MapramError } from '../../src/errors.js';
import { MappedRamImage } from '../../src/mapped-ram/image.js';
import type { LiveLimits } from '../../src/migration/live-limits.js';
import { type SaveResult, save } from '../../src/snapshot/save/save.js';
import { needs, type QemuName } from '../support/environment.js';
import { loadMappedRam } from '../support/native-migration.js';
import { startVm, type TestVm } from '../support/qemu.js';

interface MigrationState {
  status?: string;
  'cpu-throttle-percentage'?: number;
}

type Settings = Record<string, unknown>;

const setBandwidth = (vm: TestVm, bytes: number): Promise<unknown> =>
  vm.qmp.execute('migrate-set-parameters', { 'max-bandwidth': bytes });

/** Long enough for the guest to rewrite its 4 MiB of stamps before they are sent: it would never be done. */
const TOO_SLOW = 8 << 20;

async function until(look: () => Promise<boolean>): Promise<void> {
  while (!(await look())) await delay(20);
}

interface SlowSave {
  vm: TestVm;
  file: string;
  saving: Promise<SaveResult>;
}

/** Saves by stream; as soon as pages flow they flow too slowly for that guest. */
async function startSlowSave(vm: TestVm, live: LiveLimits): Promise<SlowSave> {
  const file = path.join(vm.folder, 'image');
  const saving = save({ vm: vm.qmpPath, file, method: 'stream', channels: 2, live, force: true });
  saving.catch(() => {});
  await until(async () => {
    const { status } = await vm.qmp.execute<MigrationState>('query-migrate');
    return status === 'setup' || status === 'active';
  });
  await setBandwidth(vm, TOO_SLOW);
  return { vm, file, saving };
}

async function assertSettings(vm: TestVm, before: Settings): Promise<void> {
  assert.deepEqual(await settingsOf(vm), before);
}

async function settingsOf(vm: TestVm): Promise<Settings> {
  const capabilities = await vm.qmp.execute<{ capability: string; state: boolean }[]>(
    'query-migrate-capabilities',
  );
  const { 'max-bandwidth': _, ...parameters } = await vm.qmp.execute<Settings>('query-migrate-parameters');
  return { ...parameters, ...Object.fromEntries(capabilities.map((one) => [one.capability, one.state])) };
}

const qemus: QemuName[] = ['10.0', '7.2'];
for (const qemu of qemus) {
  describe(`a guest of QEMU ${qemu} that outruns its save`, needs({ qemu, guest: 'tiny' }), () => {
    test('is stopped at the time limit, and the rest is saved', async () => {
      await using vm = await startVm({ qemu, machine: 'pc' });
      const { saving, file } = await startSlowSave(vm, { maxTimeMs: 2000, onTimeout: 'stop' });
      await until(async () => (await vm.status()) !== 'running');
      await setBandwidth(vm, 2 ** 40);
      const result = await saving;
      assert.equal(result.runState, 'running');
      assert.ok(result.downtimeMs > 0, `downtime ms: ${result.downtimeMs}`);
      await vm.console.waitForCounterAbove();
      assert.deepEqual(vm.console.torn, []);
      await using image = await MappedRamImage.open(file);
      assert.equal(image.complete, true);
    });

    test('makes the save fail at the time limit, and runs on', async () => {
      await using vm = await startVm({ qemu, machine: 'pc' });
      const before = await settingsOf(vm);
      const { saving, file } = await startSlowSave(vm, { maxTimeMs: 1500, onTimeout: 'cancel' });
      await assert.rejects(saving, (error) => {
        assert.ok(error instanceof MapramError, String(error));
        assert.match(error.message, /faster than it is saved, and the time limit of 1.5 s is over/);
        return true;
      });
      assert.equal(existsSync(file), false);
      assert.equal(await vm.status(), 'running');
      await vm.console.waitForCounterAbove();
      assert.deepEqual(vm.console.torn, []);
      await assertSettings(vm, before);
    });

    test('leaves no file behind when QEMU dies meanwhile', async () => {
      await using vm = await startVm({ qemu, machine: 'pc' });
      const { saving, file } = await startSlowSave(vm, {});
      process.kill(vm.pid, 'SIGKILL');
      await assert.rejects(saving, /QEMU has ended|was lost|was closed/);
      assert.equal(existsSync(file), false);
      assert.deepEqual(
        readdirSync(vm.folder).filter((name) => name.includes('mapram-part')),
        [],
      );
    });

    test('ends by itself where it may stand still for longer', async () => {
      await using vm = await startVm({ qemu, machine: 'pc' });
      const before = await settingsOf(vm);
      const { saving } = await startSlowSave(vm, { downtimeLimitMs: 20_000 });
      assert.equal((await settingsOf(vm))['downtime-limit'], 20_000);
      const { runState } = await saving;
      assert.equal(runState, 'running');
      await vm.console.waitForCounterAbove();
      await assertSettings(vm, before);
    });

    test('is slowed down where that is allowed', async () => {
      await using vm = await startVm({ qemu, machine: 'pc' });
      const before = await settingsOf(vm);
      const { saving } = await startSlowSave(vm, { autoConverge: true });
      await until(async () => {
        const { 'cpu-throttle-percentage': throttle = 0 } =
          await vm.qmp.execute<MigrationState>('query-migrate');
        return throttle > 0;
      });
      await setBandwidth(vm, 2 ** 40);
      assert.equal((await saving).runState, 'running');
      await vm.console.waitForCounterAbove();
      await assertSettings(vm, before);
    });
  });
}

test(
  'a guest that was stopped at the limit comes up whole',
  needs({ qemu: '10.0', guest: 'tiny' }),
  async () => {
    await using vm = await startVm({ machine: 'pc' });
    const { saving, file } = await startSlowSave(vm, { maxTimeMs: 1000 });
    await until(async () => (await vm.status()) !== 'running');
    await setBandwidth(vm, 2 ** 40);
    await saving;
    await using loaded = await startVm({ machine: 'pc', incoming: true });
    await loadMappedRam(loaded, file);
    assert.equal(await loaded.status(), 'running');
    const first = await loaded.console.waitForCounterAbove(-1);
    await loaded.console.waitForCounterAbove(first + 20);
    assert.equal(await loaded.console.checksum(), vm.console.bootChecksum);
    assert.deepEqual(loaded.console.torn, []);
  },
);
