/**
 * A monitor in front of a VM: its migration options, its commands, and the clients that talk to it over QMP and HMP.
 */

import { closeSync, fstatSync } from 'node:fs';
import type { JsonObject, JsonValue } from '../json/json-value.js';
import {
  checkMigration,
  checkTransport,
  type MigrationAddress,
  parseMigrationTarget,
} from '../options/migration-address.js';
import { type CapabilityState, MigrationOptions } from '../options/migration-options.js';
import { isMigrationRunning } from '../options/migration-status.js';
import { checkQapi } from '../options/qapi.js';
import { existsIn, isAtLeast, type QemuProfile } from '../options/qemu-profile.js';
import type { FdsetInfo } from '../qmp/qmp-commands.js';
import type { BackendEvent, MigrationBackend } from './backend.js';
import type { ClientChannel } from './client-channel.js';
import type { Command } from './command.js';
import { CommandError } from './command-error.js';
import { descriptorCommands } from './commands/descriptors.js';
import { introspectionCommands } from './commands/introspection.js';
import { migrationCommands } from './commands/migration.js';
import { optionCommands } from './commands/options.js';
import { vmCommands } from './commands/vm.js';
import { FdSets } from './fdset.js';
import { HumanMonitor } from './hmp/human-monitor.js';
import { HumanSession } from './hmp/human-session.js';
import { MonitorListener } from './monitor-listener.js';
import type { ExecuteContext, MigrationTarget, MonitorEvent, MonitorServices } from './monitor-services.js';
import { qmpSchema } from './qmp-schema.js';
import { QmpSession } from './qmp-session.js';
import { splitUnknownOptions } from './unknown-options.js';
import type { Upstream } from './upstream.js';

export interface MonitorSetup {
  readonly backend: MigrationBackend;
  /** Which QEMU to speak as. */
  readonly profile: QemuProfile;
  readonly options?: MigrationOptions;
  /** A real QEMU that gets every command the monitor does not serve itself. */
  readonly upstream?: Upstream;
  /** Gets warnings that QEMU would print on its standard error. */
  readonly warn?: (line: string) => void;
}

export type { ExecuteContext, MonitorEvent } from './monitor-services.js';

const NEEDS_EVENTS_CAPABILITY: ReadonlySet<string> = new Set(['MIGRATION', 'MIGRATION_PASS']);

export class Monitor implements MonitorServices, AsyncDisposable {
  readonly profile: QemuProfile;
  readonly backend: MigrationBackend;
  readonly options: MigrationOptions;
  readonly upstream: Upstream | undefined;
  readonly #human = new HumanMonitor(this);
  readonly #commands: ReadonlyMap<string, Command>;
  readonly #descriptors = new FdSets();
  readonly #sessions = new Set<QmpSession | HumanSession>();
  readonly #listeners = new Set<MonitorListener>();
  readonly #eventListeners = new Set<(event: MonitorEvent) => void>();
  readonly #warn: (line: string) => void;
  readonly #unsubscribe: () => void;
  #failure: Error | undefined;
  #starting: Promise<unknown> = Promise.resolve();
  #closing: Promise<void> | undefined;
  #onClosed: () => void = () => {};
  /** Resolves when the monitor has ended, by `close()` or because the VM has. */
  readonly closed: Promise<void> = new Promise((resolve) => {
    this.#onClosed = resolve;
  });

  constructor({ backend, profile, options, upstream, warn = () => {} }: MonitorSetup) {
    this.backend = backend;
    this.profile = profile;
    this.options = options ?? new MigrationOptions({ profile });
    this.upstream = upstream;
    this.#warn = warn;
    const commands = [
      ...optionCommands(profile),
      ...migrationCommands(profile),
      ...descriptorCommands(),
      ...vmCommands(profile),
      ...introspectionCommands(),
    ];
    this.#commands = new Map(
      commands.filter((command) => existsIn(profile, command)).map((command) => [command.name, command]),
    );
    this.#unsubscribe = backend.subscribe((event) => this.#emit(event));
    void backend.ended.then((reason) => {
      this.#failure ??= reason;
      return this.close();
    });
  }

  /** Why the VM ended, where that was a failure. */
  get failure(): Error | undefined {
    return this.#failure;
  }

  /** Serves QMP on a socket: a path, `unix:PATH`, `tcp:HOST:PORT`, or `fd:N`, a listening Unix socket that was inherited. */
  listenQmp(address: string): Promise<MonitorListener> {
    return this.#listen(address, (channel) => this.serveQmp(channel));
  }

  /** Serves the human monitor on a socket, for `socat` or `nc`. */
  listenHmp(address: string): Promise<MonitorListener> {
    return this.#listen(address, (channel) => this.serveHmp(channel, { terminal: true }));
  }

  /** Serves one QMP client; resolves when it is gone. */
  serveQmp(channel: ClientChannel): Promise<void> {
    return this.#serve(new QmpSession(this, channel));
  }

  /** Serves one human; resolves when it is gone. */
  serveHmp(channel: ClientChannel, { terminal }: { terminal: boolean }): Promise<void> {
    return this.#serve(new HumanSession(this, this.#human, channel, { terminal }));
  }

  /** @internal */
  takesDescriptor(name: string): boolean {
    return this.#commands.get(name)?.takesDescriptor === true;
  }

  /**
   * Runs one command and gives its result.
   *
   * @throws CommandError, OptionError or QmpError with the text for the client
   */
  async execute(name: string, args: JsonObject, context: ExecuteContext = {}): Promise<unknown> {
    const command = this.#commands.get(name);
    if (command === undefined) return this.#forwardUnknown(name, args);
    if (context.outOfBand && !command.outOfBand) {
      throw new CommandError(`The command ${name} does not support OOB`);
    }
    const { known, unknown } = this.options.leavesRules
      ? splitUnknownOptions(this.profile, name, args)
      : { known: args };
    const checked = checkQapi(command.args, known);
    if (unknown !== undefined) await this.upstream?.forward(name, unknown);
    const takeDescriptor = context.takeDescriptor ?? (() => undefined);
    const warn = context.warn ?? this.#warn;
    return command.run({ monitor: this, takeDescriptor, warn, rawArguments: args }, checked);
  }

  /** Calls `listener` with every event that clients see, until the returned function is called. */
  onEvent(listener: (event: MonitorEvent) => void): () => void {
    this.#eventListeners.add(listener);
    return () => this.#eventListeners.delete(listener);
  }

  /** @internal */
  async setParameters(changes: JsonObject): Promise<void> {
    const { parameters } = this.options;
    this.options.applyParameters(changes);
    try {
      await this.backend.changeParameters(changes, this.options.parameters);
    } catch (error) {
      this.options.adopt(parameters, {});
      throw error;
    }
  }

  /** @internal */
  async setCapabilities(
    wanted: readonly CapabilityState[],
    warn: (line: string) => void = this.#warn,
  ): Promise<void> {
    if (isMigrationRunning(await this.backend.migrationStatus())) {
      throw new CommandError("There's a migration process in progress");
    }
    const before = this.options.capabilities;
    this.options.applyCapabilities(wanted, warn);
    const changes = this.options
      .queryCapabilities()
      .filter(({ capability, state }) => state !== before[capability]);
    try {
      await this.backend.changeCapabilities?.(
        Object.fromEntries(changes.map(({ capability, state }) => [capability, state])),
      );
    } catch (error) {
      this.options.adopt({}, before);
      throw error;
    }
  }

  /** @internal */
  async migrate(args: MigrationTarget & { resume?: boolean }, raw: JsonObject): Promise<void> {
    await this.#oneAtATime(async () => {
      // 7.2 looks at the state of the VM before it looks at the address.
      const stateFirst = !isAtLeast(this.profile.release, [8, 2]);
      if (stateFirst) await this.#checkCanMigrate(args.resume);
      const address = stateFirst ? this.#targetOrFailure(args) : this.#target(args);
      if (!stateFirst) await this.#checkCanMigrate(args.resume);
      const { parameters, capabilities } = this.options;
      checkMigration(this.profile, capabilities, parameters);
      await this.backend.migrate({ address, parameters, capabilities, descriptors: this.#descriptors, raw });
    });
  }

  /** @internal */
  async migrateIncoming(
    args: MigrationTarget & { 'exit-on-error'?: boolean },
    raw: JsonObject,
  ): Promise<void> {
    await this.#oneAtATime(async () => {
      const state = await this.backend.incomingState();
      if (state === 'started') throw new CommandError('The incoming migration has already been started');
      if (state === 'none') throw new CommandError("'-incoming' was not specified on the command line");
      const address = this.#target(args);
      const { parameters, capabilities } = this.options;
      await this.backend.migrateIncoming({
        address,
        parameters,
        capabilities,
        descriptors: this.#descriptors,
        exitOnError: args['exit-on-error'] ?? true,
        raw,
      });
    });
  }

  /** @internal */
  async continueMigration(state: string): Promise<void> {
    const status = await this.backend.migrationStatus();
    if (status !== state || status !== 'pre-switchover') {
      throw new CommandError(`Migration not in expected state: ${status}`);
    }
    await this.backend.continueMigration();
  }

  /** Ends the VM, and with it the monitor once the reply is out. */
  async quit(): Promise<void> {
    await this.backend.quit();
  }

  /** Runs a line of the human monitor and gives what it prints. */
  async runHumanCommand(line: string, raw: JsonObject = { 'command-line': line }): Promise<string> {
    const output = await this.#human.run(line);
    if (output !== undefined) return output;
    if (this.upstream === undefined) return this.#human.unknown(line);
    return String(await this.upstream.forward('human-monitor-command', raw));
  }

  /** @internal */
  async addFd(fd: number, id: number | undefined, opaque: string | undefined, raw: JsonObject) {
    try {
      this.#descriptors.assertRoom();
      // QEMU may need the descriptor as well, and it numbers it.
      const reply = (await this.upstream?.forward('add-fd', raw, [fd])) as
        | { 'fdset-id': number; fd: number }
        | undefined;
      if (reply === undefined || isForMappedRam(fd))
        return this.#descriptors.add(fd, reply?.['fdset-id'] ?? id, opaque, reply?.fd);
      closeSync(fd);
      return reply;
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  /** @internal */
  async removeFd(id: number, fd: number | undefined, raw: JsonObject): Promise<void> {
    if (this.upstream !== undefined) {
      await this.upstream.forward('remove-fd', raw);
      if (!this.#descriptors.has(id, fd)) return;
    }
    this.#descriptors.remove(id, fd);
  }

  /** @internal */
  async queryFdsets(): Promise<FdsetInfo[]> {
    return this.upstream === undefined
      ? this.#descriptors.query()
      : ((await this.upstream.forward('query-fdsets', {})) as unknown as FdsetInfo[]);
  }

  /**
   * In front of a QEMU only that has it: nothing that mapram does itself uses one, and a pipe ends when all have let go of it.
   *
   * @internal
   */
  async getFd(fd: number, name: string, raw: JsonObject): Promise<void> {
    if (this.upstream === undefined) {
      try {
        if (!this.#descriptors.hasNamed(name)) this.#descriptors.assertRoom();
      } catch (error) {
        closeSync(fd);
        throw error;
      }
      this.#descriptors.setNamed(name, fd);
      return;
    }
    try {
      await this.upstream.forward('getfd', raw, [fd]);
    } finally {
      closeSync(fd);
    }
  }

  /** @internal */
  async closeFd(name: string, raw: JsonObject): Promise<void> {
    if (this.upstream === undefined) this.#descriptors.closeNamed(name);
    else await this.upstream.forward('closefd', raw);
  }

  /** @internal */
  async queryCommands(): Promise<{ name: string }[]> {
    const names = new Set([...this.#commands.keys(), 'qmp_capabilities']);
    const upstream = (await this.upstream?.forward('query-commands', {})) as { name: string }[] | undefined;
    for (const { name } of upstream ?? []) names.add(name);
    return [...names].map((name) => ({ name }));
  }

  /**
   * What the monitor serves; in front of a QEMU also what that serves, the same commands replaced.
   *
   * @internal
   */
  async queryQmpSchema(): Promise<JsonObject[]> {
    const own = qmpSchema(this.profile, [...this.#commands.values()], this.upstream ? 'mapram-' : '');
    if (this.upstream === undefined) return own;
    const theirs = (await this.upstream.forward('query-qmp-schema', {})) as JsonObject[];
    const replaced = new Set(own.map(({ name }) => name));
    return [...own, ...theirs.filter(({ name }) => !replaced.has(name as JsonValue))];
  }

  /** Ends all connections and lets go of the VM. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    await Promise.all([...this.#listeners].map((listener) => listener.stopListening()));
    await Promise.all([...this.#sessions].map((session) => session.close()));
    await Promise.all([...this.#listeners].map((listener) => listener.close()));
    this.#unsubscribe();
    await this.backend.close();
    this.#descriptors.close();
    this.#onClosed();
  }

  async #listen(address: string, serve: (channel: ClientChannel) => Promise<void>): Promise<MonitorListener> {
    const listener = await MonitorListener.open(address, (channel) => {
      // One client's connection is no reason to let go of the VM.
      serve(channel).catch(() => channel.destroy());
    });
    this.#listeners.add(listener);
    return listener;
  }

  async #serve(session: QmpSession | HumanSession): Promise<void> {
    this.#sessions.add(session);
    try {
      await session.run();
    } finally {
      this.#sessions.delete(session);
      if (![...this.#sessions].some((other) => other instanceof QmpSession)) await this.#dropSets();
    }
  }

  /** As QEMU does when its last QMP client has gone. What is open from a set is a duplicate and stays. */
  async #dropSets(): Promise<void> {
    for (const id of this.#descriptors.clearSets()) {
      // QEMU keeps its own: this monitor is its client still.
      await this.upstream?.forward('remove-fd', { 'fdset-id': id }).catch(() => {});
    }
  }

  #emit(event: BackendEvent): void {
    if (NEEDS_EVENTS_CAPABILITY.has(event.event) && !this.options.capabilities.events) return;
    const stamped = { timestamp: event.timestamp ?? now(), ...event };
    for (const session of this.#sessions) session.event(stamped);
    for (const listener of this.#eventListeners) listener(stamped);
  }

  async #forwardUnknown(name: string, args: JsonObject): Promise<unknown> {
    if (this.upstream === undefined) {
      throw new CommandError(`The command ${name} has not been found`, 'CommandNotFound');
    }
    return this.upstream.forward(name, args);
  }

  #target(args: MigrationTarget): MigrationAddress {
    const address = parseMigrationTarget(this.profile, args);
    checkTransport(this.profile, address, this.options.capabilities);
    return address;
  }

  #targetOrFailure(args: MigrationTarget): MigrationAddress {
    try {
      return this.#target(args);
    } catch (error) {
      const { message } = error as Error;
      // Without a reason where it did not even know the protocol.
      this.backend.refuseMigration?.(message.startsWith("Parameter 'uri'") ? undefined : message);
      throw error;
    }
  }

  async #checkCanMigrate(resume = false): Promise<void> {
    if (resume) throw new CommandError('Cannot resume if there is no paused migration');
    if (isMigrationRunning(await this.backend.migrationStatus())) {
      throw new CommandError("There's a migration process in progress");
    }
    const { status } = await this.backend.vmStatus();
    if (status === 'inmigrate') throw new CommandError('Guest is waiting for an incoming migration');
    if (status === 'postmigrate') {
      throw new CommandError("Can't migrate the vm that was paused due to previous migration");
    }
  }

  /** Two clients that start a migration at the same moment: the second one meets the first one's status. */
  #oneAtATime<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#starting.then(work);
    this.#starting = result.catch(() => {});
    return result;
  }
}

/** What a mapped-ram file can be: a set of such descriptors is what mapram may write to or read from itself. */
function isForMappedRam(fd: number): boolean {
  const kind = fstatSync(fd);
  return kind.isFile() || kind.isBlockDevice();
}

function now(): { seconds: number; microseconds: number } {
  const ms = performance.timeOrigin + performance.now();
  const seconds = Math.floor(ms / 1000);
  return { seconds, microseconds: Math.floor((ms - seconds * 1000) * 1000) };
}
