import type { OutgoingMigration } from '../migration/outgoing.js';
import type { MigrationCapabilities } from '../options/migration-capabilities.js';
import type { MigrationInfo, MigrationRamInfo } from '../qmp/qmp-commands.js';

/** `query-migrate` of a migration that mapram's engine runs or has run. */
export function describeMigration(
  migration: OutgoingMigration,
  capabilities: Pick<MigrationCapabilities, 'multifd'>,
): MigrationInfo {
  const { status } = migration;
  switch (status) {
    case 'none':
      return {};
    case 'setup':
    case 'cancelled':
      return { status };
    case 'failed':
      return { status, 'error-desc': (migration.error as Error).message };
    case 'completed':
      return { status, ...describeTimes(migration), ram: describeRam(migration, capabilities) };
    default:
      return { status, ...describeTimes(migration), ram: describeRam(migration, capabilities) };
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

/** Page bytes count under the channel that moved them; the stream around them is left out of the counters. */
function describeRam(
  migration: OutgoingMigration,
  { multifd }: Pick<MigrationCapabilities, 'multifd'>,
): MigrationRamInfo {
  const ram = migration.ram();
  const { totalMs } = migration.times();
  const seconds = Math.max(totalMs, 1) / 1000;
  return {
    total: ram.totalBytes,
    transferred: ram.normalBytes,
    remaining: migration.status === 'completed' ? 0 : ram.remainingBytes,
    duplicate: ram.duplicatePages,
    normal: ram.normalPages,
    'normal-bytes': ram.normalBytes,
    'page-size': ram.pageSize,
    mbps: (ram.normalBytes * 8) / seconds / 1e6,
    'dirty-sync-count': ram.passes,
    'dirty-pages-rate': 0,
    'postcopy-requests': 0,
    'multifd-bytes': multifd ? ram.normalBytes : 0,
    'pages-per-second': Math.round(ram.normalPages / seconds),
    'precopy-bytes': multifd ? 0 : ram.normalBytes,
    'downtime-bytes': 0,
    'postcopy-bytes': 0,
    'dirty-sync-missed-zero-copy': 0,
  };
}
