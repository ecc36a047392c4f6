/** Migrations over QMP. */
import { channelsType, SOCKET_ADDRESS } from '../../options/migration-address.js';
import { migrationStatuses } from '../../options/migration-status.js';
import type { QapiMember, QapiStruct } from '../../options/qapi.js';
import { existsIn, isAtLeast, type Lifetime, type QemuProfile } from '../../options/qemu-profile.js';
import { type Command, commandFor, NO_ARGUMENTS } from '../command.js';
import { CommandError } from '../command-error.js';
import type { MigrationServices } from '../monitor-services.js';

const command = commandFor<MigrationServices>();

const str = { kind: 'str' } as const;
const bool = { kind: 'bool' } as const;
const integer = { kind: 'integer', width: 'int' } as const;
const number = { kind: 'number' } as const;

export function migrationCommands(profile: QemuProfile): Command<QapiStruct, MigrationServices>[] {
  const status = { kind: 'enum', values: migrationStatuses(profile) } as const;
  return [
    command({
      name: 'migrate',
      args: migrateArguments(profile),
      run: ({ monitor, rawArguments }, args) =>
        monitor.migrate(args as { uri?: string; channels?: unknown; resume?: boolean }, rawArguments),
    }),
    command({
      name: 'migrate-incoming',
      args: {
        kind: 'struct',
        members: { ...targetMembers(profile), ...exitOnErrorMember(profile) },
      },
      run: ({ monitor, rawArguments }, args) =>
        monitor.migrateIncoming(
          args as { uri?: string; channels?: unknown; 'exit-on-error'?: boolean },
          rawArguments,
        ),
    }),
    command({
      name: 'migrate_cancel',
      args: NO_ARGUMENTS,
      run: ({ monitor }) => monitor.backend.cancelMigration(),
    }),
    command({
      name: 'migrate-continue',
      args: { kind: 'struct', members: { state: { type: status } } },
      run: ({ monitor }, { state }) => monitor.continueMigration(state),
    }),
    command({
      name: 'migrate-pause',
      args: NO_ARGUMENTS,
      outOfBand: true,
      run: () => {
        throw new CommandError(
          isAtLeast(profile.release, [8, 1])
            ? 'migrate-pause is currently only supported during postcopy-active or postcopy-recover state'
            : 'migrate-pause is currently only supported during postcopy-active state',
        );
      },
    }),
    command({
      name: 'migrate-recover',
      args: { kind: 'struct', members: { uri: { type: str } } },
      outOfBand: true,
      run: () => {
        throw new CommandError('Migrate recover can only be run when postcopy is paused.');
      },
    }),
    command({
      name: 'migrate-start-postcopy',
      args: NO_ARGUMENTS,
      run: ({ monitor }) => {
        throw new CommandError(
          monitor.options.capabilities['postcopy-ram']
            ? 'Postcopy must be started after migration has been started'
            : 'Enable postcopy with migrate_set_capability before the start of migration',
        );
      },
    }),
    command({
      name: 'query-migrate',
      args: NO_ARGUMENTS,
      returns: migrationInfo(profile),
      run: ({ monitor }) => monitor.backend.queryMigrate(),
    }),
  ];
}

/** `blk` and `inc` ended with 9.1, `uri` became optional with `channels` in 8.2. */
function migrateArguments(profile: QemuProfile): QapiStruct {
  const old: Record<string, QapiMember> = isAtLeast(profile.release, [9, 1])
    ? {}
    : { blk: { type: bool, optional: true }, inc: { type: bool, optional: true } };
  return {
    kind: 'struct',
    members: {
      ...targetMembers(profile),
      ...old,
      ...detachMember(profile),
      resume: { type: bool, optional: true },
    },
  };
}

/** Ignored over QMP; deprecated in 10.1 and gone in 11.1. */
function detachMember({ release }: QemuProfile): Record<string, QapiMember> {
  if (isAtLeast(release, [11, 1])) return {};
  return { detach: { type: bool, optional: true, deprecated: isAtLeast(release, [10, 1]) } };
}

function targetMembers(profile: QemuProfile): Record<string, QapiMember> {
  return isAtLeast(profile.release, [8, 2])
    ? {
        uri: { type: str, optional: true },
        channels: { type: channelsType(profile), optional: true },
      }
    : { uri: { type: str } };
}

function exitOnErrorMember(profile: QemuProfile): Record<string, QapiMember> {
  return isAtLeast(profile.release, [9, 1]) ? { 'exit-on-error': { type: bool, optional: true } } : {};
}

/** `MigrationRAMStats` of QEMU, in its order. */
const RAM_MEMBERS: Readonly<Record<string, QapiMember & Lifetime>> = {
  transferred: { type: integer },
  remaining: { type: integer },
  total: { type: integer },
  duplicate: { type: integer },
  skipped: { type: integer, until: [9, 1] },
  normal: { type: integer },
  'normal-bytes': { type: integer },
  'dirty-pages-rate': { type: integer },
  mbps: { type: number },
  'dirty-sync-count': { type: integer },
  'postcopy-requests': { type: integer },
  'page-size': { type: integer },
  'multifd-bytes': { type: integer },
  'pages-per-second': { type: integer },
  'precopy-bytes': { type: integer },
  'downtime-bytes': { type: integer },
  'postcopy-bytes': { type: integer },
  'dirty-sync-missed-zero-copy': { type: integer },
};

const integers = { kind: 'array', of: integer } as const;

/** `MigrationInfo` of QEMU, in its order, without the statistics that no migration of mapram's has (VFIO, XBZRLE, compression, disks). */
function migrationInfo(profile: QemuProfile): QapiStruct {
  const served = (all: Readonly<Record<string, QapiMember & Lifetime>>): Record<string, QapiMember> =>
    Object.fromEntries(
      Object.entries(all)
        .filter(([, lifetime]) => existsIn(profile, lifetime))
        .map(([name, { since: _since, until: _until, ...member }]) => [name, member]),
    );
  const optional = (type: QapiMember['type'], lifetime: Lifetime = {}) => ({
    type,
    optional: true,
    ...lifetime,
  });
  const latency = (type: QapiMember['type']) => ({ ...optional(type, { since: [10, 1] }), unstable: true });
  return {
    kind: 'struct',
    members: served({
      status: optional({ kind: 'enum', values: migrationStatuses(profile) }),
      ram: optional({ kind: 'struct', members: served(RAM_MEMBERS) }),
      remaining: optional(integer, { since: [11, 1] }),
      'total-time': optional(integer),
      'expected-downtime': optional(integer),
      downtime: optional(integer),
      'setup-time': optional(integer),
      'cpu-throttle-percentage': optional(integer),
      'error-desc': optional(str),
      'blocked-reasons': optional({ kind: 'array', of: str }),
      'postcopy-blocktime': optional(integer),
      'postcopy-vcpu-blocktime': optional(integers),
      'postcopy-latency': latency(integer),
      'postcopy-latency-dist': latency(integers),
      'postcopy-vcpu-latency': latency(integers),
      'postcopy-non-vcpu-latency': latency(integer),
      'socket-address': optional({ kind: 'array', of: SOCKET_ADDRESS }),
      'dirty-limit-throttle-time-per-round': optional(integer, { since: [8, 1] }),
      'dirty-limit-ring-full-time': optional(integer, { since: [8, 1] }),
    }),
  };
}
