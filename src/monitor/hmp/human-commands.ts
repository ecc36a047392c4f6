/** The commands of the human monitor that mapram serves. */
import { defined } from '../../defined.js';
import { type CapabilityName, servedCapabilities } from '../../options/migration-capabilities.js';
import { servedParameters } from '../../options/migration-parameters.js';
import { migrationStatuses } from '../../options/migration-status.js';
import { OptionError } from '../../options/option-error.js';
import { formatParameters, parseParameterText } from '../../options/parameter-text.js';
import { existsIn, isAtLeast, type Lifetime, type QemuProfile } from '../../options/qemu-profile.js';
import type { MonitorServices } from '../monitor-services.js';
import type { HumanArguments, HumanParameter } from './command-line.js';
import { formatMigration } from './info-migrate.js';

export interface HumanCommand extends Lifetime {
  readonly name: string;
  /** A short name. */
  readonly alias?: string;
  readonly parameters?: readonly HumanParameter[];
  /** What the help shows after the name. */
  readonly usage?: string | ((profile: QemuProfile) => string);
  readonly help: string | ((profile: QemuProfile) => string);
  /** Words that may stand at a place, for completion. */
  readonly complete?: (profile: QemuProfile, place: number) => readonly string[];
  /** Gives the text to print, if any. */
  run(context: HumanContext, args: HumanArguments): Promise<string | undefined> | string | undefined;
}

export interface HumanContext {
  readonly monitor: MonitorServices;
  /** Prints a warning before whatever the command gives. */
  warn(line: string): void;
  /** Present on a terminal: waits until the migration that was just begun has ended. */
  readonly waitForMigration?: () => Promise<string>;
}

const ON_OFF = ['on', 'off'];

function setParameter(kind: HumanParameter['kind'], lifetime: Lifetime): HumanCommand {
  return {
    name: 'migrate_set_parameter',
    ...lifetime,
    parameters: [
      { name: 'parameter', kind: 'word' },
      { name: 'value', kind },
    ],
    usage: 'parameter value',
    help: 'Set the parameter for migration',
    complete: (profile, place) => (place === 0 ? servedParameters(profile) : []),
    run: async ({ monitor }, { parameter, value }) => {
      const change = parseParameterText(monitor.profile, String(parameter), String(value));
      await monitor.execute('migrate-set-parameters', change);
      return undefined;
    },
  };
}

export const HUMAN_COMMANDS: readonly HumanCommand[] = [
  {
    name: 'cont',
    alias: 'c',
    help: 'resume emulation',
    run: async ({ monitor }) => void (await monitor.execute('cont', {})),
  },
  {
    name: 'migrate',
    parameters: [
      { name: 'd', kind: 'flag' },
      { name: 'r', kind: 'flag' },
      { name: 'uri', kind: 'word' },
    ],
    usage: (profile) => (isAtLeast(profile.release, [9, 1]) ? '[-d] [-r] uri' : '[-d] [-b] [-i] [-r] uri'),
    help: migrateHelp,
    run: runMigrate,
  },
  {
    name: 'migrate_cancel',
    help: 'cancel the current VM migration',
    run: async ({ monitor }) => void (await monitor.execute('migrate_cancel', {})),
  },
  {
    name: 'migrate_continue',
    parameters: [{ name: 'state', kind: 'word' }],
    usage: 'state',
    help: 'Continue migration from the given paused state',
    complete: (profile) => migrationStatuses(profile),
    run: async ({ monitor }, { state }) => {
      const known = migrationStatuses(monitor.profile).includes(String(state));
      if (!known) throw new OptionError(`invalid parameter value: ${state}`);
      await monitor.execute('migrate-continue', { state: String(state) });
      return undefined;
    },
  },
  {
    name: 'migrate_incoming',
    parameters: [{ name: 'uri', kind: 'word' }],
    usage: 'uri',
    help: 'Continue an incoming migration from an -incoming defer',
    run: async ({ monitor }, { uri }) =>
      void (await monitor.execute('migrate-incoming', { uri: String(uri) })),
  },
  {
    name: 'migrate_pause',
    help: 'Pause an ongoing migration (postcopy-only)',
    run: async ({ monitor }) => void (await monitor.execute('migrate-pause', {})),
  },
  {
    name: 'migrate_recover',
    parameters: [{ name: 'uri', kind: 'word' }],
    usage: 'uri',
    help: 'Continue a paused incoming postcopy migration',
    run: async ({ monitor }, { uri }) =>
      void (await monitor.execute('migrate-recover', { uri: String(uri) })),
  },
  {
    name: 'migrate_set_capability',
    parameters: [
      { name: 'capability', kind: 'word' },
      { name: 'state', kind: 'switch' },
    ],
    usage: 'capability state',
    help: 'Enable/Disable the usage of a capability for migration',
    complete: (profile, place) => [servedCapabilities(profile), ON_OFF][place] ?? [],
    run: async ({ monitor, warn }, { capability, state }) => {
      const name = String(capability);
      if (!servedCapabilities(monitor.profile).includes(name as CapabilityName)) {
        throw new OptionError(`invalid parameter value: ${name}`);
      }
      await monitor.execute(
        'migrate-set-capabilities',
        { capabilities: [{ capability: name, state: state === true }] },
        { warn },
      );
      return undefined;
    },
  },
  // Since 10.2 the value of cpr-exec-command holds spaces; from QEMU's source.
  setParameter('word', { until: [10, 2] }),
  setParameter('rest', { since: [10, 2] }),
  {
    name: 'migrate_start_postcopy',
    help: 'Followup to a migration command to switch the migration to postcopy mode. The postcopy-ram capability must be set on both source and destination before the original migration command .',
    run: async ({ monitor }) => void (await monitor.execute('migrate-start-postcopy', {})),
  },
  {
    name: 'quit',
    alias: 'q',
    help: 'quit the emulator',
    run: async ({ monitor }) => void (await monitor.execute('quit', {})),
  },
  {
    name: 'stop',
    alias: 's',
    help: 'stop emulation',
    run: async ({ monitor }) => void (await monitor.execute('stop', {})),
  },
];

/** `info NAME`. */
export const INFO_COMMANDS: readonly HumanCommand[] = [
  {
    name: 'migrate',
    help: 'show migration status',
    parameters: [{ name: 'a', kind: 'flag' }],
    usage: '[-a]',
    since: [10, 2],
    run: ({ monitor }, { a }) => showMigration(monitor, a === true),
  },
  {
    name: 'migrate',
    help: 'show migration status',
    until: [10, 2],
    run: ({ monitor }) => showMigration(monitor, true),
  },
  {
    name: 'migrate_capabilities',
    help: 'show current migration capabilities',
    run: ({ monitor }) =>
      lines(
        monitor.options
          .queryCapabilities()
          .map(({ capability, state }) => `${capability}: ${state ? 'on' : 'off'}`),
      ),
  },
  {
    name: 'migrate_parameters',
    help: 'show current migration parameters',
    run: ({ monitor }) => lines(formatParameters(monitor.profile, monitor.options.parameters)),
  },
  {
    name: 'status',
    help: 'show the current VM status (running|paused)',
    run: async ({ monitor }) => {
      const { running, status, singlestep } = await monitor.backend.vmStatus();
      const mode = singlestep ? ' (single step mode)' : '';
      const reason = running || status === 'paused' ? '' : ` (${status})`;
      return lines([`VM status: ${running ? 'running' : 'paused'}${mode}${reason}`]);
    },
  },
  {
    name: 'version',
    help: 'show the version of QEMU',
    run: ({ monitor }) => {
      const { qemu, package: packageText } = monitor.backend.version;
      return lines([`${qemu.major}.${qemu.minor}.${qemu.micro}${packageText}`]);
    },
  },
];

export function servedIn<T extends Lifetime>(profile: QemuProfile, commands: readonly T[]): T[] {
  return commands.filter((command) => existsIn(profile, command));
}

function lines(texts: readonly string[]): string {
  return texts.map((text) => `${text}\n`).join('');
}

async function showMigration(monitor: MonitorServices, all: boolean): Promise<string> {
  if (monitor.upstream && monitor.backend.forwardsMigration?.()) {
    const line = all && isAtLeast(monitor.profile.release, [10, 2]) ? 'info migrate -a' : 'info migrate';
    const text = await monitor.upstream.forward('human-monitor-command', { 'command-line': line });
    return String(text).replaceAll('\r\n', '\n');
  }
  return lines(formatMigration(monitor.profile, await monitor.backend.queryMigrate(), { all }));
}

async function runMigrate(
  { monitor, waitForMigration }: HumanContext,
  { d: detached, r: resume, uri }: HumanArguments,
): Promise<string | undefined> {
  await monitor.execute('migrate', { uri: String(uri), ...defined({ resume: resume || undefined }) });
  if (detached) return undefined;
  if (waitForMigration === undefined) {
    return 'terminal does not allow synchronous migration, continuing detached\n';
  }
  return waitForMigration();
}

function migrateHelp(profile: QemuProfile): string {
  const first = 'migrate to URI (using -d to not wait for completion)';
  if (isAtLeast(profile.release, [9, 1])) {
    return `${first}\n\t\t\t -r to resume a paused postcopy migration`;
  }
  return [
    first,
    '\t\t\t -b for migration without shared storage with full copy of disk',
    '\t\t\t -i for migration without shared storage with incremental copy of disk (base image shared between src and destination)',
    '\t\t\t -r to resume a paused migration',
  ].join('\n');
}
