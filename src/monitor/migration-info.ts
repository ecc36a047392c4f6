import { defined } from '../defined.js';
import type { OutgoingMigration } from '../migration/outgoing.js';
import type { MigrationCapabilities } from '../options/migration-capabilities.js';
import { isAtLeast, type QemuRelease } from '../options/qemu-profile.js';
import type { MigrationInfo, MigrationRamInfo } from '../qmp/qmp-commands.js';

export interface DescribeOptions extends Pick<MigrationCapabilities, 'multifd'> {
  /** The QEMU that is spoken as: `skipped` ended with 9.1, the top-level `remaining` came with 11.1. */
  readonly release: QemuRelease;
}

/** `query-migrate` of a migration that mapram's engine runs or has run. */
export function describeMigration(migration: OutgoingMigration, options: DescribeOptions): MigrationInfo {
  const { status } = migration;
  switch (status) {
    case 'none':
      return {};
    case 'setup':
    case 'cancelled':
      return { status };
    case 'failed':
      return { status, 'error-desc': (migration.error as Error).message };
    default: {
      const ram = describeRam(migration, options);
      // Bytes of the whole VM. Device state is not counted: its size is unknown until it is saved.
      const remaining = isAtLeast(options.release, [11, 1]) ? { remaining: ram.remaining } : {};
      return { status, ...describeTimes(migration), ...remaining, ram };
    }
  }
}

function describeTimes(migration: OutgoingMigration): MigrationInfo {
  const { setupMs, totalMs, downtimeMs, expectedDowntimeMs } = migration.times();
  return {
    'setup-time': setupMs,
    'total-time': totalMs,
    ...(downtimeMs === undefined ? { 'expected-downtime': expectedDowntimeMs } : { downtime: downtimeMs }),
  };
}

/** As QEMU counts: pages under the channel that moved them, the rest of the stream only in `transferred`. */
function describeRam(migration: OutgoingMigration, { multifd, release }: DescribeOptions): MigrationRamInfo {
  const ram = migration.ram();
  const { totalMs, setupMs } = migration.times();
  const seconds = Math.max(totalMs - setupMs, 1) / 1000;
  const transferred = (ram.packetBytes ?? ram.normalBytes) + ram.streamBytes;
  const onMain = ({ normalBytes, recordBytes }: { normalBytes: number; recordBytes: number }) =>
    (multifd ? 0 : normalBytes) + recordBytes;
  const mainBytes = onMain(ram);
  const precopyBytes = onMain(ram.beforeStop);
  return {
    total: ram.totalBytes,
    transferred,
    remaining: migration.status === 'completed' ? 0 : ram.remainingBytes,
    duplicate: ram.duplicatePages,
    ...defined({ skipped: isAtLeast(release, [9, 1]) ? undefined : 0 }),
    normal: ram.normalPages,
    'normal-bytes': ram.normalBytes,
    'page-size': ram.pageSize,
    mbps: (transferred * 8) / seconds / 1e6,
    'dirty-sync-count': ram.passes,
    'dirty-pages-rate': 0,
    'postcopy-requests': 0,
    'multifd-bytes': multifd ? (ram.packetBytes ?? ram.normalBytes) : 0,
    'pages-per-second': Math.round(ram.normalPages / seconds),
    'precopy-bytes': precopyBytes,
    'downtime-bytes': mainBytes - precopyBytes,
    'postcopy-bytes': 0,
    'dirty-sync-missed-zero-copy': 0,
  };
}
