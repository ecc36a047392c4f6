import type { JsonObject } from '../json/json-value.js';
import type { PlainJson } from '../json/plain-json.js';
import type { FileAddress, MigrationAddress } from '../options/migration-address.js';
import type { MigrationCapabilities } from '../options/migration-capabilities.js';
import type { MigrationParameters } from '../options/migration-parameters.js';
import type { MigrationInfo, QmpVersion, VmStatus } from '../qmp/qmp-commands.js';
import type { FdSets } from './fdset.js';

/** An event; the monitor adds the time. */
export interface BackendEvent {
  readonly event: string;
  readonly data?: { [key: string]: PlainJson };
  /** When it came from elsewhere, the time it bears. */
  readonly timestamp?: { readonly seconds: number; readonly microseconds: number };
}

/** One migration as it was asked for; the options are those of this moment and do not change any more. */
export interface MigrationRequest {
  readonly address: MigrationAddress;
  readonly parameters: Readonly<MigrationParameters>;
  readonly capabilities: Readonly<MigrationCapabilities>;
  /** Descriptors that `/dev/fdset/N` and `fd:NAME` may mean. */
  readonly descriptors: FdSets;
  /** The arguments of the command as they came, for passing on. */
  readonly raw: JsonObject;
}

export interface IncomingRequest extends MigrationRequest {
  /** Whether a failure ends the VM, as QEMU does unless told otherwise. */
  readonly exitOnError: boolean;
}

export type FileMigrationRequest = MigrationRequest & { readonly address: FileAddress };

/** What a VM was started for: nothing to load, waiting for `migrate-incoming`, or told already. */
export type IncomingState = 'none' | 'deferred' | 'started';

/**
 * A VM as a monitor drives it: the builtin machine, or a real QEMU.
 *
 * The monitor has checked arguments, options and states before it calls; what a backend throws goes to the client as
 * the description of a `GenericError`, word for word. A backend that fails is expected to leave the VM as it was.
 */
export interface MigrationBackend {
  readonly version: QmpVersion;
  vmStatus(): Promise<VmStatus>;
  stop(): Promise<void>;
  cont(): Promise<void>;
  /** Ends the VM; emits SHUTDOWN before it resolves. */
  quit(): Promise<void>;
  incomingState(): Promise<IncomingState>;
  /** The `status` of `query-migrate`; `none` when there was no migration. */
  migrationStatus(): Promise<string>;
  queryMigrate(): Promise<MigrationInfo>;
  /**
   * Begins a migration: resolves once the target is open (status `setup`), and emits whatever comes after only in a
   * later turn of the event loop, so that the reply goes out first. When the target cannot be opened it emits `setup`
   * and `failed` and throws.
   */
  migrate(request: MigrationRequest): Promise<void>;
  /** Told of an address that cannot be: before 8.2 QEMU counted that as a migration that failed. */
  refuseMigration?(reason: string | undefined): void;
  /** The same for the way in. */
  migrateIncoming(request: IncomingRequest): Promise<void>;
  /** Cancels what runs, otherwise does nothing. Resolves once the status is `cancelling`. */
  cancelMigration(): Promise<void>;
  /** Ends the pause in `pre-switchover`. */
  continueMigration(): Promise<void>;
  /**
   * Passes changes of options on, after they were found good. A throw undoes them.
   *
   * @param parameters all of them, as they now are
   */
  changeParameters(changes: JsonObject, parameters: Readonly<MigrationParameters>): Promise<void>;
  changeCapabilities?(changes: Partial<MigrationCapabilities>): Promise<void>;
  /** Whether the last migration was somebody else's, who then has more to say about it. */
  forwardsMigration?(): boolean;
  /** Calls `listener` with every event, in order, until the returned function is called. */
  subscribe(listener: (event: BackendEvent) => void): () => void;
  /** Resolves when the VM has ended, with the reason where that was a failure. */
  readonly ended: Promise<Error | undefined>;
  /** Lets go of the VM; a builtin one ends with it, a QEMU goes on. */
  close(): Promise<void>;
}
