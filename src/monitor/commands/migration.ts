/** Migrations over QMP. */
import { channelsType, SOCKET_ADDRESS } from '../../options/migration-address.js';
import { migrationStatuses } from '../../options/migration-status.js';
import type { QapiMember, QapiStruct } from '../../options/qapi.js';
import { isAtLeast, type QemuProfile } from '../../options/qemu-profile.js';
import { type Command, command, NO_ARGUMENTS } from '../command.js';
import { CommandError } from '../command-error.js';

const str = { kind: 'str' } as const;
const bool = { kind: 'bool' } as const;
const integer = { kind: 'integer', width: 'int' } as const;
const number = { kind: 'number' } as const;

export function migrationCommands(profile: QemuProfile): Command[] {
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
      detach: { type: bool, optional: true },
      resume: { type: bool, optional: true },
    },
  };
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

const RAM_INTEGERS = [
  'transferred',
  'remaining',
  'total',
  'duplicate',
  'normal',
  'normal-bytes',
  'dirty-pages-rate',
  'dirty-sync-count',
  'postcopy-requests',
  'page-size',
  'multifd-bytes',
  'pages-per-second',
  'precopy-bytes',
  'downtime-bytes',
  'postcopy-bytes',
  'dirty-sync-missed-zero-copy',
];

function migrationInfo(profile: QemuProfile): QapiStruct {
  const ram: Record<string, QapiMember> = { mbps: { type: number } };
  for (const name of RAM_INTEGERS) ram[name] = { type: integer };
  const optional = (type: QapiMember['type']): QapiMember => ({ type, optional: true });
  return {
    kind: 'struct',
    members: {
      status: optional({ kind: 'enum', values: migrationStatuses(profile) }),
      ram: optional({ kind: 'struct', members: ram }),
      'total-time': optional(integer),
      'expected-downtime': optional(integer),
      downtime: optional(integer),
      'setup-time': optional(integer),
      'error-desc': optional(str),
      'blocked-reasons': optional({ kind: 'array', of: str }),
      'socket-address': optional({ kind: 'array', of: SOCKET_ADDRESS }),
    },
  };
}
