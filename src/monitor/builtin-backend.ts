/**
 * The builtin guest behind a monitor: what `mapram monitor builtin` drives. Saves and loads run in mapram's own engine.
 */

import { setTimeout as delay } from 'node:timers/promises';
import { errorReason, MapramError } from '../errors.js';
import type { BuiltinGuest } from '../guest/builtin/builtin-guest.js';
import { GuestSource } from '../migration/guest-source.js';
import { IncomingMigration } from '../migration/incoming.js';
import { OutgoingMigration } from '../migration/outgoing.js';
import { factsOfGuest } from '../migration/saved-facts.js';
import type { MigrationParameters } from '../options/migration-parameters.js';
import type { JsonObject } from '../options/qapi.js';
import type { QemuProfile } from '../options/qemu-profile.js';
import { isAtLeast } from '../options/qemu-profile.js';
import { packageVersion } from '../package-version.js';
import type { MigrationInfo, QmpVersion, VmStatus } from '../qmp/qmp-commands.js';
import type {
  BackendEvent,
  IncomingRequest,
  IncomingState,
  MigrationBackend,
  MigrationRequest,
} from './backend.js';
import { CommandError } from './command-error.js';
import { EventSource } from './event-source.js';
import { describeMigration } from './migration-info.js';
import {
  type OpenTarget,
  openIncoming,
  openOutgoing,
  requireFile,
  requireMappedFile,
} from './migration-target.js';
import { sealing } from './sealed-save.js';

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
    const old = !isAtLeast(this.#profile.release, [9, 0]);
    return { status, ...(old ? { singlestep: false } : {}), running: status === 'running' };
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
    if (this.#last.kind === 'info') return this.#last.info;
    const { migration, multifd } = this.#last;
    return describeMigration(migration, { multifd });
  }

  async changeParameters(_: JsonObject, parameters: Readonly<MigrationParameters>): Promise<void> {
    if (this.#last.kind === 'outgoing') await this.#last.migration.changeParameters(parameters);
  }

  async migrate(request: MigrationRequest): Promise<void> {
    const { parameters, capabilities } = request;
    let target: OpenTarget;
    try {
      requireMappedFile(request);
      if (capabilities['background-snapshot']) {
        throw new CommandError('Background-snapshot is not supported by the builtin guest');
      }
      target = openOutgoing(request);
    } catch (error) {
      this.#setInfo({ status: 'setup' });
      this.#setInfo({ status: 'failed', 'error-desc': errorReason(error) });
      throw error;
    }
    const migration = new OutgoingMigration({
      source: new GuestSource(this.#guest),
      file: target.file,
      parameters,
      capabilities,
      sync: false,
      ...sealing(target.file, factsOfGuest(this.#guest, this.#guest.runState), true),
    });
    this.#last = { kind: 'outgoing', migration, multifd: capabilities.multifd };
    migration.on('status', (status) => {
      // QEMU 9 has the state `device` only after a pause.
      const skipped =
        status === 'device' &&
        !capabilities['pause-before-switchover'] &&
        !isAtLeast(this.#profile.release, [10, 0]);
      if (status === 'completed') this.#postMigrate = true;
      if (!skipped) this.#emitStatus(status);
    });
    migration.on('pass', (pass) => this.#emit({ event: 'MIGRATION_PASS', data: { pass } }));
    this.#work = migration
      .run()
      .catch(() => {})
      .then(() => target[Symbol.dispose]());
  }

  async migrateIncoming(request: IncomingRequest): Promise<void> {
    requireFile(request);
    const { status } = this.#last.kind === 'info' ? this.#last.info : {};
    if (status !== undefined) throw new CommandError(`Illegal migration incoming state: ${status}`);
    this.#setInfo({ status: 'setup' });
    const target = openIncoming(request);
    this.#incoming = 'started';
    const { parameters, capabilities } = request;
    const migration = new IncomingMigration({
      guest: this.#guest,
      file: target.file,
      parameters,
      capabilities,
    });
    this.#work = this.#load(request, target, migration);
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
    await this.#work;
    this.#guest.off('runState', this.#onRunState);
    await this.#guest[Symbol.asyncDispose]();
    this.#end(undefined);
  }

  async #load(
    { capabilities, exitOnError }: IncomingRequest,
    target: OpenTarget,
    migration: IncomingMigration,
  ): Promise<void> {
    try {
      using _ = target;
      // The reply goes out first.
      await delay(0);
      this.#setInfo({ status: 'active' });
      if (!capabilities['mapped-ram']) {
        throw new MapramError(
          'FORMAT',
          `loading ${target.file.name}: the builtin guest takes mapped-ram files only; switch the capability mapped-ram on`,
        );
      }
      const { runState = 'running' } = await migration.run();
      if (runState === 'running' && !this.#paused) await this.#guest.cont();
      this.#setInfo({ status: 'completed' });
    } catch (error) {
      this.#warn(errorReason(error));
      this.#setInfo({ status: 'failed', 'error-desc': loadFailure(error) });
      if (exitOnError) this.#end(error as Error);
    }
  }

  #setInfo(info: MigrationInfo): void {
    this.#last = { kind: 'info', info };
    this.#emitStatus(info.status ?? 'none');
  }

  #emitStatus(status: string): void {
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

/** QEMU names the kind of a failure only, and prints the reason. */
function loadFailure(error: unknown): string {
  const { code } = error as MapramError;
  const kind =
    code === 'UNSUPPORTED'
      ? 'Operation not supported'
      : code === 'IO'
        ? 'Input/output error'
        : 'Invalid argument';
  return `load of migration failed: ${kind}`;
}
