/** What the commands and the sessions of a monitor need from it, so that they do not know the monitor itself. */
import type { JsonObject } from '../json/json-value.js';
import type { CapabilityState, MigrationOptions } from '../options/migration-options.js';
import type { QemuProfile } from '../options/qemu-profile.js';
import type { FdsetInfo } from '../qmp/qmp-commands.js';
import type { BackendEvent, MigrationBackend } from './backend.js';
import type { Upstream } from './upstream.js';

/** An event as it goes to clients. */
export type MonitorEvent = BackendEvent & {
  readonly timestamp: { readonly seconds: number; readonly microseconds: number };
};

export interface ExecuteContext {
  readonly takeDescriptor?: () => number | undefined;
  readonly outOfBand?: boolean;
  /** Gets warnings instead of the monitor's own listener. */
  readonly warn?: (line: string) => void;
}

/** Where `migrate` and `migrate-incoming` were pointed at, after their arguments were checked. */
export interface MigrationTarget {
  uri?: string;
  channels?: unknown;
}

export interface OptionServices {
  readonly options: MigrationOptions;
  /** Types have been checked: `execute` does so for every command. */
  setParameters(changes: JsonObject): Promise<void>;
  setCapabilities(changes: readonly CapabilityState[], warn?: (line: string) => void): Promise<void>;
}

export interface MigrationServices {
  readonly backend: MigrationBackend;
  readonly options: MigrationOptions;
  migrate(args: MigrationTarget & { resume?: boolean }, raw: JsonObject): Promise<void>;
  migrateIncoming(args: MigrationTarget & { 'exit-on-error'?: boolean }, raw: JsonObject): Promise<void>;
  continueMigration(state: string): Promise<void>;
}

export interface DescriptorServices {
  addFd(
    fd: number,
    id: number | undefined,
    opaque: string | undefined,
    raw: JsonObject,
  ): Promise<{ 'fdset-id': number; fd: number }>;
  removeFd(id: number, fd: number | undefined, raw: JsonObject): Promise<void>;
  queryFdsets(): Promise<FdsetInfo[]>;
  getFd(fd: number, name: string, raw: JsonObject): Promise<void>;
  closeFd(name: string, raw: JsonObject): Promise<void>;
}

export interface VmServices {
  readonly backend: MigrationBackend;
  quit(): Promise<void>;
  runHumanCommand(line: string, raw?: JsonObject): Promise<string>;
}

export interface IntrospectionServices {
  readonly backend: MigrationBackend;
  queryCommands(): Promise<{ name: string }[]>;
  queryQmpSchema(): Promise<JsonObject[]>;
}

export interface MonitorServices
  extends OptionServices,
    MigrationServices,
    DescriptorServices,
    VmServices,
    IntrospectionServices {
  readonly profile: QemuProfile;
  readonly upstream: Upstream | undefined;
  /** Whether the command of this name takes over a descriptor that came with the request. */
  takesDescriptor(name: string): boolean;
  /** @throws CommandError, OptionError or QmpError with the text for the client */
  execute(name: string, args: JsonObject, context?: ExecuteContext): Promise<unknown>;
}
