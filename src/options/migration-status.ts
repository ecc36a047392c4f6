import { existsIn, type Lifetime, type QemuProfile } from './qemu-profile.js';

/** QEMU's `MigrationStatus`, in its order. */
const STATUSES = {
  none: {},
  setup: {},
  cancelling: {},
  cancelled: {},
  active: {},
  'postcopy-device': { since: [10, 2] },
  'postcopy-active': {},
  'postcopy-paused': {},
  'postcopy-recover-setup': { since: [9, 1] },
  'postcopy-recover': {},
  completed: {},
  // An error has occurred and QEMU is still cleaning up; `failed` follows when that is done.
  failing: { since: [11, 0] },
  failed: {},
  colo: {},
  'pre-switchover': {},
  device: {},
  'wait-unplug': {},
} as const satisfies Record<string, Lifetime>;

export type MigrationStatus = keyof typeof STATUSES;

export const MIGRATION_STATUSES = Object.keys(STATUSES) as MigrationStatus[];

export function migrationStatuses(profile: QemuProfile): string[] {
  return MIGRATION_STATUSES.filter((status) => existsIn(profile, STATUSES[status]));
}

const RUNNING: ReadonlySet<string> = new Set([
  'setup',
  'active',
  'pre-switchover',
  'device',
  'cancelling',
  'failing',
  'wait-unplug',
  'postcopy-active',
  'postcopy-device',
  'postcopy-paused',
  'postcopy-recover-setup',
  'postcopy-recover',
  'colo',
]);

/** Whether a migration in this status keeps another one, and other capabilities, away. */
export function isMigrationRunning(status: string): boolean {
  return RUNNING.has(status);
}
