import { existsIn, type Lifetime, type QemuProfile } from '../options/qemu-profile.js';

/** QEMU's `MigrationStatus`, in its order. */
const STATUSES: Readonly<Record<string, Lifetime>> = {
  none: {},
  setup: {},
  cancelling: {},
  cancelled: {},
  active: {},
  'postcopy-active': {},
  'postcopy-paused': {},
  'postcopy-recover-setup': { since: [9, 1] },
  'postcopy-recover': {},
  completed: {},
  failed: {},
  colo: {},
  'pre-switchover': {},
  device: {},
  'wait-unplug': {},
  'postcopy-device': { since: [10, 2] },
};

export function migrationStatuses(profile: QemuProfile): string[] {
  return Object.keys(STATUSES).filter((status) => existsIn(profile, STATUSES[status] ?? {}));
}

const RUNNING: ReadonlySet<string> = new Set([
  'setup',
  'active',
  'pre-switchover',
  'device',
  'cancelling',
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
