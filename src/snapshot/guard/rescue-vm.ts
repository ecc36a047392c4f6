/** Puts a VM right whose save died: ends its migration, lets it run if it ran, restores its migration settings. */
import { setTimeout as delay } from 'node:timers/promises';
import { MapramError } from '../../errors.js';
import { MigrationSettings } from '../../guest/qemu/migration-settings.js';
import { QemuVm } from '../../guest/qemu/qemu-vm.js';
import { isMigrationRunning } from '../../options/migration-status.js';
import { removeLeftOver } from '../files/left-over-parts.js';
import type { HeldRecord, RecordedVm } from './save-record.js';

/** States in which QEMU leaves a guest that was stopped for its migration or its snapshot. */
const STOPPED_BY_QEMU = new Set(['finish-migrate', 'postmigrate', 'save-vm']);

/** Between two attempts. */
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 30_000;

export interface RescueOptions {
  /**
   * Whether to wait for a monitor that is silent or busy, and to try again whatever fails, for as long as QEMU lives. By default the first
   * failure is the last.
   */
  patient?: boolean;
}

/** Whether a guest in this state was stopped by the save that the record is about; one that its owner has paused was not. */
export function isStoppedForSave(record: RecordedVm, runState: string): boolean {
  if (record.runState !== 'running') return false;
  return STOPPED_BY_QEMU.has(runState) || (runState === 'paused' && record.stopped === true);
}

/**
 * Puts right what a record tells of, and removes it.
 *
 * @returns the state of the VM afterwards; `gone` when nothing listens at its address any more, `untouched` without a VM
 * @throws MapramError when the VM cannot be reached or does not obey; the record is then still there
 */
export async function rescue(held: HeldRecord, { patient = false }: RescueOptions = {}): Promise<string> {
  const { vm, partPath } = held.record;
  let runState = 'untouched';
  if (vm !== undefined) {
    runState = await (patient ? rescuePatiently(held) : rescueVm(held, vm));
    held.forgetVm();
  }
  try {
    removeLeftOver(partPath);
  } catch {
    // A file system that has failed. `mapram doctor --clean` finds the part file by its name.
  }
  held.remove();
  return runState;
}

async function rescuePatiently(held: HeldRecord): Promise<string> {
  for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)) {
    try {
      // One connection, however long it takes: QEMU's queue holds one, and others would find it full.
      return await rescueVm(held, held.record.vm as RecordedVm, { timeoutMs: Number.POSITIVE_INFINITY });
    } catch {
      await delay(pauseMs);
    }
  }
}

async function rescueVm(
  held: HeldRecord,
  { address, capabilities, parameters }: RecordedVm,
  options: { timeoutMs?: number } = {},
): Promise<string> {
  const connected = await connect(address, options);
  if (connected === undefined) return 'gone';
  await using vm = connected;
  // A guest that was stopped before its RAM is read can run again at once; QEMU then goes on as with a live migration.
  if ((await vm.runState()) === 'paused') await runAgain(vm, held);
  if (isMigrationRunning((await vm.migrationInfo()).status)) await vm.cancelMigration();
  for (let attempt = 0; await runAgain(vm, held); attempt++) {
    if (attempt === ATTEMPTS) throw stays(vm, await vm.runState());
    await delay(ATTEMPT_PAUSE_MS);
  }
  await (await MigrationSettings.recorded(vm, { capabilities, parameters })).restore();
  return await vm.runState();
}

/** `cont` is refused while QEMU cleans up after the migration. */
const ATTEMPTS = 100;
const ATTEMPT_PAUSE_MS = 20;

/**
 * Lets a guest run that the save has stopped. Once QEMU has obeyed it is the owner who stops it.
 *
 * @returns whether it was stopped for the save, so that its state has to be looked at again
 */
async function runAgain(vm: QemuVm, held: HeldRecord): Promise<boolean> {
  if (!isStoppedForSave(held.record.vm as RecordedVm, await vm.runState())) return false;
  await vm.cont().then(
    () => held.noteStopped(false),
    () => {},
  );
  return true;
}

function stays(vm: QemuVm, runState: string): MapramError {
  return new MapramError('VM', `continuing the VM at ${vm.address}: it stays ${runState}`, {
    path: vm.address,
  });
}

/** Undefined when nobody listens there any more: QEMU has ended. */
async function connect(address: string, options: { timeoutMs?: number }): Promise<QemuVm | undefined> {
  try {
    return await QemuVm.connect(address, options);
  } catch (error) {
    const { cause } = error as { cause?: NodeJS.ErrnoException };
    if (cause?.code === 'ENOENT' || cause?.code === 'ECONNREFUSED') return undefined;
    throw error;
  }
}
