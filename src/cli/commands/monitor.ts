import { type Command, Option } from 'commander';
import { MapramError } from '../../errors.js';
import { BuiltinGuest } from '../../guest/builtin/builtin-guest.js';
import { parseBuiltinOptions } from '../../guest/builtin/options.js';
import { MetricsServer } from '../../metrics/metrics-server.js';
import { MigrationMetrics } from '../../metrics/migration-metrics.js';
import { BuiltinBackend } from '../../monitor/builtin-backend.js';
import { StreamChannel } from '../../monitor/client-channel.js';
import { Monitor } from '../../monitor/monitor.js';
import { monitorInFrontOf } from '../../monitor/open-monitor.js';
import { PROFILE_NAMES, type ProfileName, qemuProfile } from '../../options/qemu-profile.js';
import { parseSocketAddress } from '../../qmp/socket-address.js';
import { parseVmAddress, VM_HELP, type VmAddress } from '../arguments.js';
import type { CommandContext, CommandOf, CommandResult } from '../command.js';
import type { Listeners } from '../results.js';
import { monitorAddress } from '../vm-argument.js';

interface MonitorOptions {
  readonly qmp?: string;
  readonly hmp?: string;
  readonly metrics?: string;
  readonly speakAs: ProfileName;
  readonly paused: boolean;
  readonly incoming: boolean | string;
}

export const monitor: CommandOf<'monitor'> = {
  name: 'monitor',
  summary: 'serve a QMP or HMP monitor with the migration commands in front of a VM',
  declare,
  run: (args, options, context) => run(args[0] as VmAddress, options as MonitorOptions, context),
};

function declare(command: Command): void {
  command
    .argument('<vm>', VM_HELP, parseVmAddress)
    .option(
      '--qmp <socket>',
      'serve QMP there: a path, tcp:HOST:PORT (loopback without HOST), or fd:N, a listening socket that was inherited',
    )
    .option('--hmp <socket>', 'serve the human monitor there, or on this terminal: stdio')
    .option('--metrics <address>', 'serve figures for Prometheus over HTTP there: tcp:HOST:PORT')
    .addOption(
      new Option('--speak-as <version>', 'which QEMU the builtin guest speaks as')
        .choices([...PROFILE_NAMES])
        .default('10.0'),
    )
    .option('--paused', 'builtin guest: begin stopped', false)
    .option(
      '--incoming [uri]',
      'builtin guest: begin empty, and load from there (file:, unix:, tcp:, exec:), or wait for migrate-incoming',
      false,
    )
    .addHelpText(
      'after',
      `
Examples:
  mapram monitor /run/vm.qmp --qmp /run/vm-front.qmp
  mapram monitor builtin:size=256M --qmp guest.qmp --hmp guest.hmp

Try it by hand:
  mapram monitor builtin --hmp stdio
  (qemu) migrate_set_capability mapped-ram on
  (qemu) migrate_set_capability multifd on
  (qemu) migrate_set_parameter direct-io on
  (qemu) migrate file:vm.mapram`,
    );
}

async function run(
  vm: VmAddress,
  options: MonitorOptions,
  context: CommandContext<Listeners>,
): Promise<CommandResult<Listeners>> {
  const { qmp, hmp } = options;
  if (qmp === undefined && hmp === undefined) {
    throw new MapramError('USAGE', 'monitor: say where to serve: --qmp SOCKET, --hmp SOCKET or --hmp stdio');
  }
  if (hmp === 'stdio' && context.json) {
    throw new MapramError('USAGE', 'monitor: --json and --hmp stdio cannot both have standard output');
  }
  context.signal.throwIfAborted();
  await using opened = await openMonitor(vm, options, context);
  const listening: Listeners = {};
  using _logged = logMigrations(opened, context);
  await using served =
    options.metrics === undefined ? undefined : await serveMetrics(opened, options.metrics);
  if (served !== undefined) {
    listening.metrics = served.url;
    context.print(`metrics on ${served.url}`);
  }
  if (qmp !== undefined) {
    listening.qmp = (await opened.listenQmp(qmp)).address;
    context.print(`QMP on ${listening.qmp}`);
  }
  if (hmp === 'stdio') {
    void serveTerminal(opened);
    listening.hmp = 'stdio';
  } else if (hmp !== undefined) {
    listening.hmp = (await opened.listenHmp(hmp)).address;
    context.print(`HMP on ${listening.hmp}`);
  }
  // People were told as each began.
  if (context.json) context.ready(listening, '');
  const stop = () => void opened.close();
  context.signal.addEventListener('abort', stop, { once: true });
  try {
    await opened.closed;
  } finally {
    context.signal.removeEventListener('abort', stop);
  }
  if (opened.failure !== undefined) throw opened.failure;
  return { fields: listening, text: '' };
}

/** Each change of a migration's status is a record of the log. */
function logMigrations({ backend }: Monitor, { log }: CommandContext): Disposable {
  const unsubscribe = backend.subscribe(({ event, data = {} }) => {
    if (event === 'MIGRATION') log('info', 'migration', data);
  });
  return { [Symbol.dispose]: unsubscribe };
}

async function serveMetrics(monitor: Monitor, text: string): Promise<{ url: string } & AsyncDisposable> {
  const address = parseSocketAddress(text);
  if ('path' in address) throw new MapramError('USAGE', 'monitor: --metrics takes tcp:HOST:PORT');
  const metrics = new MigrationMetrics(monitor);
  try {
    const server = await MetricsServer.open(address.host, address.port, () => metrics.collect());
    const close = async () => {
      await server[Symbol.asyncDispose]();
      metrics[Symbol.dispose]();
    };
    return { url: server.url, [Symbol.asyncDispose]: close };
  } catch (error) {
    metrics[Symbol.dispose]();
    throw error;
  }
}

async function openMonitor(
  vm: VmAddress,
  options: MonitorOptions,
  context: CommandContext,
): Promise<Monitor> {
  const warn = (line: string) => context.warn(line);
  if (vm.kind !== 'builtin') {
    return monitorInFrontOf(monitorAddress(vm), { signal: context.signal, warn });
  }
  const profile = qemuProfile(options.speakAs);
  const { incoming } = options;
  const begin = incoming ? 'incoming' : options.paused ? 'paused' : 'running';
  const guest = await BuiltinGuest.start({ ...parseBuiltinOptions(vm.options), begin });
  const backend = new BuiltinBackend(guest, { profile, paused: options.paused, warn });
  const monitor = new Monitor({ backend, profile, warn });
  if (typeof incoming === 'string' && incoming !== 'defer')
    await monitor.migrateIncoming({ uri: incoming }, {});
  return monitor;
}

/** The monitor on this terminal, or on a pipe; ends with its input. */
async function serveTerminal(monitor: Monitor): Promise<void> {
  const { stdin, stdout } = process;
  const terminal = stdin.isTTY && stdout.isTTY;
  if (terminal) stdin.setRawMode(true);
  try {
    await monitor.serveHmp(new StreamChannel(stdin, stdout), { terminal });
  } finally {
    if (terminal) stdin.setRawMode(false);
    await monitor.close();
  }
}
