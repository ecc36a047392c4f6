/**
 * The builtin guest behind a monitor: what `mapram monitor builtin` drives. Saves and loads run in mapram's own engine.
 */

import { setTimeout as delay } from 'node:timers/promises';
import type { StreamCompression } from '../channels/socket/payload-decoder.js';
import { MAXIMUM_SOCKET_CHANNELS } from '../channels/socket/socket-channel-receiver.js';
import { defined } from '../defined.js';
import { errorReason, type MapramError } from '../errors.js';
import type { BuiltinGuest } from '../guest/builtin/builtin-guest.js';
import type { JsonObject } from '../json/json-value.js';
import { IncomingMigration } from '../migration/incoming.js';
import { IncomingStream } from '../migration/incoming-stream.js';
import { OutgoingMigration } from '../migration/outgoing.js';
import { StreamOutput } from '../migration/outputs/stream-output.js';
import type { ZeroPageWay } from '../migration/outputs/stream-output-protocol.js';
import type { StreamConnections } from '../migration/receiver/stream-connections.js';
import { factsOfGuest } from '../migration/saved-facts.js';
import { BackgroundSource, GuestSource } from '../migration/sources/guest-source.js';
import type { OutgoingSource } from '../migration/sources/migration-source.js';
import type { MigrationCapabilities } from '../options/migration-capabilities.js';
import type { MigrationParameters } from '../options/migration-parameters.js';
import type { QemuProfile } from '../options/qemu-profile.js';
import { isAtLeast } from '../options/qemu-profile.js';
import { packageVersion } from '../package-version.js';
import type { MigrationInfo, QmpVersion, VmStatus } from '../qmp/qmp-commands.js';
import type {
  BackendEvent,
  FileMigrationRequest,
  IncomingRequest,
  IncomingState,
  MigrationBackend,
  MigrationRequest,
} from './backend.js';
import { CommandError } from './command-error.js';
import { EventSource } from './event-source.js';
import { describeMigration } from './migration-info.js';
import { openIncoming, openOutgoing, sealingOf } from './migration-target.js';
import { openStreamSource, openStreamTarget, type StreamSource } from './stream-endpoints.js';

export interface BuiltinBackendOptions {
  readonly profile: QemuProfile;
  /** Whether a loaded guest stays stopped, as with QEMU's `-S`. */
  readonly paused?: boolean;
  /** Gets what QEMU would print on its standard error: why a load failed. */
  readonly warn?: (line: string) => void;
}

type Last =
  | { readonly kind: 'none' }
  | { readonly kind: 'outgoing'; readonly migration: OutgoingMigration; readonly multifd: boolean }
  /** Everything that the engine of an outgoing migration does not describe. */
  | { readonly kind: 'info'; info: MigrationInfo };

export class BuiltinBackend implements MigrationBackend {
  readonly version: QmpVersion;
  readonly ended: Promise<Error | undefined>;
  readonly #guest: BuiltinGuest;
  readonly #profile: QemuProfile;
  #paused: boolean;
  readonly #warn: (line: string) => void;
  readonly #events = new EventSource();
  readonly #onRunState: () => void;
  #end: (reason: Error | undefined) => void = () => {};
  #last: Last = { kind: 'none' };
  #incoming: IncomingState;
  #wasRunning: boolean;
  /** After a save the guest stays stopped until `cont`, in a state of its own. */
  #postMigrate = false;
  #work: Promise<void> = Promise.resolve();
  /** Where a load waits for its sender. */
  #listening: StreamSource['addresses'];
  /** Ends a load. */
  #endLoad: () => void = () => {};

  /** @param guest owned by the backend from now on */
  constructor(guest: BuiltinGuest, { profile, paused = false, warn = () => {} }: BuiltinBackendOptions) {
    this.#guest = guest;
    this.#profile = profile;
    this.#paused = paused;
    this.#warn = warn;
    const [major, minor] = profile.release;
    this.version = { qemu: { major, minor, micro: 0 }, package: `mapram ${packageVersion()}` };
    this.#incoming = guest.runState === 'inmigrate' ? 'deferred' : 'none';
    this.#wasRunning = guest.runState === 'running';
    this.#onRunState = () => this.#tellRunState();
    this.ended = new Promise((resolve) => {
      this.#end = resolve;
    });
    guest.on('runState', this.#onRunState);
  }

  async vmStatus(): Promise<VmStatus> {
    const status = this.#postMigrate ? 'postmigrate' : this.#guest.runState;
    const old = this.#speaks(9, 0) ? {} : { singlestep: false };
    return { status, ...old, running: status === 'running' };
  }

  async stop(): Promise<void> {
    if (this.#guest.runState === 'running') await this.#guest.stop('paused');
  }

  async cont(): Promise<void> {
    if (this.#guest.runState === 'inmigrate') {
      // Remembered for the end of the load, as QEMU does.
      this.#paused = false;
      return;
    }
    this.#postMigrate = false;
    if (this.#guest.runState !== 'running') await this.#guest.cont();
  }

  async quit(): Promise<void> {
    this.#events.emit({ event: 'SHUTDOWN', data: { guest: false, reason: 'host-qmp-quit' } });
    this.#end(undefined);
  }

  async incomingState(): Promise<IncomingState> {
    return this.#incoming;
  }

  async migrationStatus(): Promise<string> {
    if (this.#last.kind === 'outgoing') return this.#last.migration.status;
    return (this.#last.kind === 'info' && this.#last.info.status) || 'none';
  }

  async queryMigrate(): Promise<MigrationInfo> {
    if (this.#last.kind === 'none') return {};
    if (this.#last.kind === 'info') return this.#describe(this.#last.info);
    const { migration, multifd } = this.#last;
    return describeMigration(migration, { multifd, release: this.#profile.release });
  }

  /** A destination that waits tells where; QEMU before 8.2 tells nothing else of it. */
  #describe(info: MigrationInfo): MigrationInfo {
    if (this.#incoming !== 'started') return info;
    const told = info.status === 'setup' && !this.#speaks(8, 2) ? {} : info;
    return this.#listening === undefined
      ? told
      : { ...told, 'socket-address': this.#listening as NonNullable<MigrationInfo['socket-address']> };
  }

  async changeParameters(_: JsonObject, parameters: Readonly<MigrationParameters>): Promise<void> {
    if (this.#last.kind === 'outgoing') await this.#last.migration.changeParameters(parameters);
  }

  async migrate(request: MigrationRequest): Promise<void> {
    const { capabilities } = request;
    let output: OpenOutput;
    try {
      output = isMappedFile(request) ? this.#fileOutput(request) : await this.#streamOutput(request);
    } catch (error) {
      this.#setInfo({ status: 'setup' });
      this.#setInfo({ status: 'failed', 'error-desc': errorReason(error) });
      throw error;
    }
    const { migration } = output;
    this.#last = { kind: 'outgoing', migration, multifd: capabilities.multifd };
    migration.on('status', (status) => {
      // QEMU 9 has the state `device` only after a pause.
      const skipped = status === 'device' && !capabilities['pause-before-switchover'] && !this.#speaks(10, 0);
      if (status === 'completed') this.#postMigrate = !capabilities['background-snapshot'];
      if (!skipped) this.#emitStatus(status);
    });
    migration.on('pass', (pass) => this.#emit({ event: 'MIGRATION_PASS', data: { pass } }));
    this.#work = migration
      .run()
      .catch((error) => {
        if (migration.status === 'failed') this.#warn(errorReason(error));
      })
      .then(() => output.dispose());
  }

  refuseMigration(reason: string | undefined): void {
    this.#setInfo({ status: 'setup' });
    this.#setInfo({ status: 'failed', ...defined({ 'error-desc': reason }) });
  }

  async migrateIncoming(request: IncomingRequest): Promise<void> {
    const { status } = this.#last.kind === 'info' ? this.#last.info : {};
    if (status !== undefined) throw new CommandError(`Illegal migration incoming state: ${status}`);
    this.#setInfo({ status: 'setup' });
    const load = isMappedFile(request) ? this.#fileLoad(request) : await this.#streamLoad(request);
    this.#incoming = 'started';
    this.#work = this.#load(request, load);
  }

  async cancelMigration(): Promise<void> {
    if (this.#last.kind === 'outgoing') this.#last.migration.cancel();
  }

  async continueMigration(): Promise<void> {
    if (this.#last.kind === 'outgoing') this.#last.migration.continue();
  }

  subscribe(listener: (event: BackendEvent) => void): () => void {
    return this.#events.subscribe(listener);
  }

  /** Cancels what runs and ends the guest. */
  async close(): Promise<void> {
    await this.cancelMigration();
    this.#endLoad();
    await this.#work;
    this.#guest.off('runState', this.#onRunState);
    await this.#guest[Symbol.asyncDispose]();
    this.#end(undefined);
  }

  #source(capabilities: Readonly<MigrationCapabilities>): OutgoingSource {
    return capabilities['background-snapshot']
      ? new BackgroundSource(this.#guest)
      : new GuestSource(this.#guest);
  }

  #fileOutput(request: FileMigrationRequest): OpenOutput {
    const target = openOutgoing(request);
    const { file } = target;
    const { parameters, capabilities } = request;
    const facts = factsOfGuest(this.#guest, this.#guest.runState);
    const migration = new OutgoingMigration({
      source: this.#source(capabilities),
      file,
      parameters,
      capabilities,
      sync: false,
      ...sealingOf(file, { facts: () => facts, checksums: 'xxh64' }),
    });
    return { migration, dispose: () => target[Symbol.dispose]() };
  }

  async #streamOutput(request: MigrationRequest): Promise<OpenOutput> {
    const { parameters, capabilities } = request;
    const channels = socketChannels(request);
    const method = parameters['multifd-compression'] as StreamCompression;
    const endpoint = await openStreamTarget(request, channels + 1);
    const output = new StreamOutput({
      endpoint,
      channels,
      marks: channels === 0 ? 'none' : this.#speaks(8, 1) ? 'flushes' : 'sections',
      zeroPages: this.#zeroPages(request, channels),
      compression: {
        method,
        level: parameters[method === 'zstd' ? 'multifd-zstd-level' : 'multifd-zlib-level'],
      },
      switchoverStart: this.#speaks(10, 0),
      ...defined({
        startFailure: this.#speaks(9, 1) ? 'ram_save_setup failed: Input/output error' : undefined,
      }),
    });
    const source = this.#source(capabilities);
    return {
      migration: new OutgoingMigration({ source, parameters, capabilities, output }),
      dispose: () => {},
    };
  }

  #zeroPages({ parameters }: MigrationRequest, channels: number): ZeroPageWay {
    const detection = this.#speaks(9, 0) ? parameters['zero-page-detection'] : 'legacy';
    if (detection === 'none') return 'pages';
    return channels > 0 && detection === 'multifd' ? 'packets' : 'main';
  }

  #fileLoad(request: FileMigrationRequest): Load {
    const target = openIncoming(request);
    const { parameters, capabilities } = request;
    const migration = new IncomingMigration({
      guest: this.#guest,
      file: target.file,
      parameters,
      capabilities,
    });
    return {
      arrived: async () => {},
      run: async () => (await migration.run()).runState,
      abort: () => migration.cancel(),
      dispose: async () => target[Symbol.dispose](),
    };
  }

  async #streamLoad(request: MigrationRequest): Promise<Load> {
    const channels = socketChannels(request);
    const source = await openStreamSource(request, channels + 1);
    this.#listening = source.addresses;
    const stream = new IncomingStream({
      guest: this.#guest,
      name: source.name,
      channels,
    });
    const abort = new AbortController();
    let connections: StreamConnections | undefined;
    return {
      async arrived() {
        connections = await source.connect(abort.signal);
      },
      run: () => stream.run(connections?.fds ?? []),
      abort() {
        abort.abort();
        stream.abort();
        connections?.abort();
      },
      async dispose() {
        connections?.abort();
        await stream.dispose();
        await connections?.close();
        await source.dispose();
      },
    };
  }

  async #load({ exitOnError }: IncomingRequest, load: Load): Promise<void> {
    this.#endLoad = load.abort;
    try {
      // The reply goes out first.
      await delay(0);
      await load.arrived();
      this.#setInfo({ status: 'active' });
      const runState = (await load.run()) ?? 'running';
      await load.dispose();
      if (runState === 'running' && !this.#paused) await this.#guest.cont();
      this.#listening = undefined;
      this.#setInfo({ status: 'completed' });
    } catch (error) {
      await load.dispose();
      this.#warn(errorReason(error));
      this.#listening = undefined;
      this.#setInfo({ status: 'failed', 'error-desc': loadFailure(error) });
      if (exitOnError) this.#end(error as Error);
    }
  }

  /** Whether the QEMU that this monitor speaks as is that release or a later one. */
  #speaks(major: number, minor: number): boolean {
    return isAtLeast(this.#profile.release, [major, minor]);
  }

  #setInfo(info: MigrationInfo): void {
    this.#last = { kind: 'info', info };
    this.#emitStatus(info.status ?? 'none');
  }

  /** QEMU since 11.0 announces a failure before it cleans up, and `failed` when that is done. */
  #emitStatus(status: string): void {
    if (status === 'failed' && this.#speaks(11, 0)) this.#emitStatus('failing');
    this.#emit({ event: 'MIGRATION', data: { status } });
  }

  #emit(event: BackendEvent): void {
    this.#events.emit(event);
  }

  #tellRunState(): void {
    const running = this.#guest.runState === 'running';
    if (running === this.#wasRunning) return;
    this.#wasRunning = running;
    this.#emit({ event: running ? 'RESUME' : 'STOP' });
  }
}

/** A migration whose way out is open. */
interface OpenOutput {
  readonly migration: OutgoingMigration;
  /** After its end. */
  dispose(): void;
}

/** A load that is under way. */
interface Load {
  /** Resolves when the sender is there. */
  arrived(): Promise<void>;
  /** Resolves with the run state in which the guest was saved, where that is known. */
  run(): Promise<string | undefined>;
  abort(): void;
  /** Never throws; may be called again. */
  dispose(): Promise<void>;
}

function isMappedFile(request: MigrationRequest): request is FileMigrationRequest {
  return request.address.transport === 'file' && request.capabilities['mapped-ram'];
}

/** Both sides must say the same. */
function socketChannels({ parameters, capabilities }: MigrationRequest): number {
  return capabilities.multifd ? Math.min(parameters['multifd-channels'], MAXIMUM_SOCKET_CHANNELS) : 0;
}

/** Where in a stream its version is. */
const VERSION = { start: 4, end: 8 } as const;

/** QEMU names the kind of a failure only, and prints the reason; a stream that ends within its version has another one. */
function loadFailure(error: unknown): string {
  const { code, offset = -1 } = error as MapramError;
  const kind =
    offset >= VERSION.start && offset < VERSION.end
      ? 'Operation not supported'
      : code === 'IO'
        ? 'Input/output error'
        : 'Invalid argument';
  return `load of migration failed: ${kind}`;
}
