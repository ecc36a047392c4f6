/** Puts a VM right whose save died: ends its migration, lets it run if it ran, restores its migration settings. */
import { setTimeout as delay } from 'node:timers/promises';
import { errorReason, MapramError } from '../../errors.js';
import { MigrationSettings } from '../../guest/qemu/migration-settings.js';
import { QemuVm } from '../../guest/qemu/qemu-vm.js';
import { isMigrationRunning } from '../../options/migration-status.js';
import { removeLeftOver } from '../left-over-parts.js';
import type { RecordedVm, SaveRecord } from './save-record.js';

/** States in which QEMU leaves a guest that was stopped for a save. */
export const STOPPED_FOR_SAVE = new Set(['paused', 'finish-migrate', 'postmigrate', 'save-vm']);

/** QEMU serves one monitor connection at a time, and needs a moment to see that the former one has ended. */
const CONNECT_ATTEMPTS = 8;
const GREETING_MS = 4000;

/**
 * @returns the state of the VM afterwards; `gone` when nothing listens at its address any more, `untouched` without a VM
 * @throws MapramError when the VM cannot be reached or does not obey
 */
export async function rescueVm({ vm, partPath }: SaveRecord): Promise<string> {
  const runState = vm === undefined ? 'untouched' : await rescueRunState(vm);
  removeLeftOver(partPath);
  return runState;
}

async function rescueRunState(record: RecordedVm): Promise<string> {
  const connected = await connect(record.address);
  if (connected === undefined) return 'gone';
  await using vm = connected;
  const mustRun = record.runState === 'running';
  // A guest that was stopped before its RAM is read can run again at once; QEMU then goes on as with a live migration.
  if (mustRun && (await vm.runState()) === 'paused') await vm.cont();
  if (isMigrationRunning((await vm.migrationInfo()).status)) await vm.cancelMigration();
  if (mustRun) await letRun(vm);
  const { capabilities, parameters } = record;
  await (await MigrationSettings.recorded(vm, { capabilities, parameters })).restore();
  return await vm.runState();
}

async function letRun(vm: QemuVm): Promise<void> {
  for (let attempt = 0; attempt < 100; attempt++) {
    const state = await vm.runState();
    if (!STOPPED_FOR_SAVE.has(state)) return;
    // Refused while QEMU cleans up behind the migration.
    await vm.cont().catch(() => {});
    await delay(20);
  }
  throw new MapramError('VM', `continuing the VM at ${vm.address}: it stays ${await vm.runState()}`, {
    path: vm.address,
  });
}

async function connect(address: string): Promise<QemuVm | undefined> {
  let reason: unknown;
  for (let attempt = 0; attempt < CONNECT_ATTEMPTS; attempt++) {
    try {
      return await QemuVm.connect(address, { signal: AbortSignal.timeout(GREETING_MS) });
    } catch (error) {
      const { cause } = error as { cause?: NodeJS.ErrnoException };
      if (cause?.code === 'ENOENT' || cause?.code === 'ECONNREFUSED') return undefined;
      reason = error;
      await delay(100);
    }
  }
  throw new MapramError(
    'MONITOR',
    `continuing the VM at ${address} after its save died: ${errorReason(reason)}`,
    { path: address, cause: reason },
  );
}
