/**
 * A real QEMU behind a monitor.
 *
 * What this QEMU can do itself it is left to do: its own migration, started with the arguments as they came. What it
 * lacks, or what would end it, mapram's engine does: mapped-ram files of a QEMU before 9.0, direct-io before 9.1.
 */

import { MAXIMUM_FILE_CHANNELS } from '../channels/file/file-channels.js';
import { MAXIMUM_SOCKET_CHANNELS } from '../channels/socket/socket-channel-receiver.js';
import { errorReason } from '../errors.js';
import { QemuVm } from '../guest/qemu/qemu-vm.js';
import { reopenDescriptorOf } from '../io/process/process-descriptor.js';
import type { JsonObject } from '../json/json-value.js';
import { MappedRamImage } from '../mapped-ram/image.js';
import { assertComplete } from '../migration/incoming.js';
import { OutgoingMigration } from '../migration/outgoing.js';
import { loadByStream } from '../migration/qemu-stream-load.js';
import { chooseMethod } from '../migration/save-method.js';
import { atStateTaken, factsOfQemu } from '../migration/saved-facts.js';
import { qemuSource } from '../migration/sources/qemu-source.js';
import type { QemuStreamSourceOptions } from '../migration/sources/qemu-stream-source.js';
import { effectiveDirectIo } from '../options/direct-io.js';
import type { MigrationCapabilities } from '../options/migration-capabilities.js';
import type { MigrationOptions } from '../options/migration-options.js';
import type { MigrationParameters } from '../options/migration-parameters.js';
import { isMigrationRunning } from '../options/migration-status.js';
import { isAtLeast, type QemuRelease } from '../options/qemu-profile.js';
import type { FdsetInfo, MigrationInfo, QmpVersion, VmStatus } from '../qmp/qmp-commands.js';
import type {
  BackendEvent,
  IncomingRequest,
  IncomingState,
  MigrationBackend,
  MigrationRequest,
} from './backend.js';
import { CommandError } from './command-error.js';
import { EventSource } from './event-source.js';
import { FdSets } from './fdset.js';
import { describeMigration } from './migration-info.js';
import {
  type OpenTarget,
  openIncoming,
  openOutgoing,
  requireMappedFile,
  sealingOf,
} from './migration-target.js';
import type { Upstream } from './upstream.js';

export class QemuBackend implements MigrationBackend {
  readonly version: QmpVersion;
  readonly ended: Promise<undefined>;
  readonly #upstream: Upstream;
  readonly #vm: QemuVm;
  readonly #events = new EventSource();
  /** Names that this QEMU has, out of those that the monitor serves. */
  #parameterNames: ReadonlySet<string> = new Set();
  #capabilityNames: ReadonlySet<string> = new Set();
  /** The last migration, if mapram's engine ran it. */
  #engine: { readonly migration: OutgoingMigration; readonly multifd: boolean } | undefined;
  /** The last migration, if it failed before anybody ran it. */
  #failed: MigrationInfo | undefined;
  /** Parameters to be set in QEMU once the engine has done. */
  #withheld: JsonObject = {};
  #work: Promise<void> = Promise.resolve();
  readonly #closing = new AbortController();

  private constructor(upstream: Upstream) {
    this.#upstream = upstream;
    this.#vm = QemuVm.over(upstream.client);
    this.version = upstream.client.version;
    this.ended = upstream.ended.then(() => undefined);
    void this.#passEvents();
  }

  /** @param options filled with what the QEMU has set already */
  static async open(upstream: Upstream, options: MigrationOptions): Promise<QemuBackend> {
    const backend = new QemuBackend(upstream);
    const { client } = upstream;
    // A QEMU that is silent keeps nobody from closing.
    client.setPatience({ signal: backend.#closing.signal });
    const { capabilities, parameters } = await backend.#vm.askFeatures();
    backend.#parameterNames = new Set([...Object.keys(parameters), 'block-bitmap-mapping']);
    backend.#capabilityNames = new Set(capabilities.map(({ capability }) => capability));
    options.adopt(
      parameters,
      Object.fromEntries(capabilities.map(({ capability, state }) => [capability, state])),
    );
    return backend;
  }

  vmStatus(): Promise<VmStatus> {
    return this.#upstream.client.execute('query-status');
  }

  async stop(): Promise<void> {
    await this.#upstream.forward('stop', {});
  }

  async cont(): Promise<void> {
    await this.#upstream.forward('cont', {});
  }

  async quit(): Promise<void> {
    await this.#upstream.forward('quit', {});
  }

  async incomingState(): Promise<IncomingState> {
    // QEMU tells by its own answer to migrate-incoming.
    return 'deferred';
  }

  async migrationStatus(): Promise<string> {
    return (await this.queryMigrate()).status ?? 'none';
  }

  async queryMigrate(): Promise<MigrationInfo> {
    if (this.#failed) return this.#failed;
    if (this.#engine) {
      return describeMigration(this.#engine.migration, {
        multifd: this.#engine.multifd,
        release: this.#release,
      });
    }
    return this.#upstream.client.execute('query-migrate');
  }

  forwardsMigration(): boolean {
    return this.#engine === undefined && this.#failed === undefined;
  }

  /** While the engine runs QEMU's own settings are the engine's; they follow afterwards. */
  async changeParameters(changes: JsonObject, parameters: Readonly<MigrationParameters>): Promise<void> {
    if (this.#engine && this.#engineRuns()) {
      this.#withheld = { ...this.#withheld, ...changes };
      await this.#engine.migration.changeParameters(parameters);
      return;
    }
    await this.#setParameters(changes);
  }

  async #setParameters(changes: JsonObject): Promise<void> {
    const known = pick(changes, this.#parameterNames);
    if (Object.keys(known).length > 0) await this.#upstream.forward('migrate-set-parameters', known);
  }

  async changeCapabilities(changes: Partial<MigrationCapabilities>): Promise<void> {
    await this.#setCapabilities(changes);
  }

  async migrate(request: MigrationRequest): Promise<void> {
    // The last one may have completed and still be putting QEMU's settings back.
    await this.#work;
    if (request.address.transport !== 'file' || !request.capabilities['mapped-ram']) {
      return this.#migrateInQemu(request);
    }
    await this.#fetchDescriptors(request);
    if (this.#canDo(request)) {
      // Where the file system, or the set of descriptors, has no O_DIRECT to offer, QEMU 10.0 would crash.
      this.#openTarget(request)[Symbol.dispose]();
      return this.#migrateInQemu(request);
    }
    await this.#migrateByEngine(request);
  }

  async migrateIncoming(request: IncomingRequest): Promise<void> {
    const wantsMappedRam = request.address.transport === 'file' && request.capabilities['mapped-ram'];
    if (wantsMappedRam && !this.#canDo(request)) return this.#loadByEngine(request);
    await this.#sync(request);
    await this.#upstream.forward('migrate-incoming', request.raw);
  }

  async cancelMigration(): Promise<void> {
    if (this.#engineRuns()) this.#engine?.migration.cancel();
    else await this.#upstream.forward('migrate_cancel', {});
  }

  async continueMigration(): Promise<void> {
    if (this.#engineRuns()) this.#engine?.migration.continue();
    else await this.#upstream.forward('migrate-continue', { state: 'pre-switchover' });
  }

  subscribe(listener: (event: BackendEvent) => void): () => void {
    return this.#events.subscribe(listener);
  }

  async close(): Promise<void> {
    this.#closing.abort();
    if (this.#engineRuns()) this.#engine?.migration.cancel();
    await this.#work;
    await this.#upstream.close();
  }

  #canDo({ parameters, capabilities }: MigrationRequest): boolean {
    return (
      this.#vm.has('mappedRam') && (!effectiveDirectIo(parameters, capabilities) || this.#vm.has('directIo'))
    );
  }

  get #release(): QemuRelease {
    const { major, minor } = this.version.qemu;
    return [major, minor];
  }

  #engineRuns(): boolean {
    return this.#engine !== undefined && isMigrationRunning(this.#engine.migration.status);
  }

  async #migrateInQemu(request: MigrationRequest): Promise<void> {
    await this.#sync(request);
    this.#engine = undefined;
    this.#failed = undefined;
    await this.#upstream.forward('migrate', request.raw);
  }

  async #migrateByEngine(request: MigrationRequest): Promise<void> {
    const { parameters, capabilities } = request;
    const { status: runState } = await this.vmStatus();
    const background = capabilities['background-snapshot'];
    // QEMU itself cannot write this file: that is why the engine does.
    const { method } = await chooseMethod(this.#vm, {
      method: 'auto',
      live: runState === 'running',
      directIo: false,
      // As QEMU leaves it.
      afterwards: 'stop',
      ...{ background, runState },
      ...(background ? { streamOnly: 'background-snapshot is on' } : {}),
    });
    const source = qemuSource(
      this.#vm,
      method === 'shared' ? 'shared' : 'stream',
      streamWishes(request, runState),
    );
    let facts = await factsOfQemu(this.#vm, runState);
    await this.#fetchDescriptors(request);
    const target = this.#openTarget(request);
    const migration = new OutgoingMigration({
      source,
      file: target.file,
      parameters,
      capabilities,
      sync: false,
      onStateTaken: async () => {
        if (!background) facts = atStateTaken(facts);
      },
      // Pages that come by a stream would have to be read again.
      ...sealingOf(target.file, {
        facts: () => facts,
        ...(method === 'shared' ? { checksums: 'xxh64' } : {}),
      }),
    });
    this.#failed = undefined;
    this.#engine = { migration, multifd: capabilities.multifd };
    migration.on('status', (status) => this.#emitStatus(status));
    migration.on('pass', (pass) => this.#events.emit({ event: 'MIGRATION_PASS', data: { pass } }));
    this.#work = migration
      .run()
      .catch(() => {})
      .then(() => target[Symbol.dispose]())
      .then(() => this.#setWithheld());
  }

  async #setWithheld(): Promise<void> {
    const withheld = this.#withheld;
    this.#withheld = {};
    // A QEMU that has gone needs no settings.
    await this.#setParameters(withheld).catch(() => {});
  }

  /** A set that QEMU got on its command line, or through another monitor, is known to QEMU alone. */
  async #fetchDescriptors({ address, descriptors }: MigrationRequest): Promise<void> {
    const pid = this.#vm.peerPid();
    const id = address.transport === 'file' ? FdSets.numberIn(address.filename) : undefined;
    if (pid === undefined || id === undefined || descriptors.has(id)) return;
    const sets = (await this.#upstream.forward('query-fdsets', {})) as unknown as FdsetInfo[];
    const members = sets.find(({ 'fdset-id': found }) => found === id)?.fds ?? [];
    for (const { fd, opaque } of members.reverse()) {
      descriptors.add(reopenDescriptorOf(pid, fd), id, opaque, fd);
    }
  }

  /** Plays the file as a stream that this QEMU knows. Its own events and answers tell how that goes. */
  async #loadByEngine(request: IncomingRequest): Promise<void> {
    requireMappedFile(request);
    const { status } = await this.vmStatus();
    if (status !== 'inmigrate') throw new CommandError("'-incoming' was not specified on the command line");
    await this.#fetchDescriptors(request);
    const target = openIncoming(request);
    const { file } = target;
    const { capabilities, parameters, exitOnError } = request;
    this.#engine = undefined;
    this.#failed = undefined;
    await new Promise<void>((listening, failed) => {
      const load = async () => {
        using _ = target;
        await using image = await MappedRamImage.reopen(file.channelFd, file.name, { offset: file.offset });
        assertComplete(image, file.name);
        await loadByStream(this.#vm, {
          image,
          channels: capabilities.multifd
            ? Math.min(parameters['multifd-channels'], MAXIMUM_SOCKET_CHANNELS)
            : 0,
          directIo: file.direct,
          exitOnError,
          signal: this.#closing.signal,
          onListening: listening,
        });
      };
      this.#work = load().catch(failed);
    });
  }

  /** @throws what kept the file from being opened, which then is what query-migrate tells */
  #openTarget(request: MigrationRequest): OpenTarget {
    requireMappedFile(request);
    try {
      return openOutgoing(request);
    } catch (error) {
      this.#engine = undefined;
      this.#failed = { status: 'failed', 'error-desc': errorReason(error) };
      this.#emitStatus('setup');
      this.#emitStatus('failed');
      throw error;
    }
  }

  /** Brings QEMU's own options to what the monitor has. */
  async #sync({ parameters, capabilities }: MigrationRequest): Promise<void> {
    const { client } = this.#upstream;
    // With mapped-ram on QEMU may refuse every change of parameters.
    await this.#setCapabilities({ 'mapped-ram': false });
    await client.execute(
      'migrate-set-parameters',
      pick(parameters, this.#parameterNames) as Partial<MigrationParameters>,
    );
    await this.#setCapabilities(capabilities);
  }

  async #setCapabilities(changes: Partial<MigrationCapabilities>): Promise<void> {
    const list = Object.entries(pick(changes, this.#capabilityNames)).map(([capability, state]) => ({
      capability,
      state,
    }));
    if (list.length > 0) await this.#upstream.forward('migrate-set-capabilities', { capabilities: list });
  }

  /** The engine's own migration inside QEMU is nobody's business. */
  async #passEvents(): Promise<void> {
    try {
      for await (const event of this.#upstream.client.events()) {
        const inner = event.event === 'MIGRATION' || event.event === 'MIGRATION_PASS';
        if (!(inner && this.#engineRuns())) this.#events.emit(event);
      }
    } catch {
      // The connection has ended, which `ended` tells.
    }
  }

  /** QEMU since 11.0 announces a failure before it cleans up, and `failed` when that is done. */
  #emitStatus(status: string): void {
    if (status === 'failed' && isAtLeast(this.#release, [11, 0])) this.#emitStatus('failing');
    this.#events.emit({ event: 'MIGRATION', data: { status } });
  }
}

/** How QEMU's stream is to come, as far as the client has said. */
function streamWishes(
  { capabilities, parameters }: MigrationRequest,
  runState: string,
): QemuStreamSourceOptions {
  const maxBandwidth = parameters['max-bandwidth'];
  if (capabilities['background-snapshot']) return { mode: { kind: 'background' }, channels: 0, maxBandwidth };
  const channels = capabilities.multifd ? Math.min(parameters['multifd-channels'], MAXIMUM_FILE_CHANNELS) : 0;
  if (runState !== 'running') return { mode: { kind: 'stopped' }, channels, maxBandwidth };
  const downtimeLimitMs = parameters['downtime-limit'];
  const autoConverge = capabilities['auto-converge'];
  return { mode: { kind: 'live', downtimeLimitMs, autoConverge }, channels, maxBandwidth };
}

function pick<V>(values: { readonly [name: string]: V }, names: ReadonlySet<string>): { [name: string]: V } {
  return Object.fromEntries(Object.entries(values).filter(([name]) => names.has(name)));
}
