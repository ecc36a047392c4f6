/** Arguments and results of the QMP commands that mapram itself uses; every other command is sent untyped. */

import type { PlainJson } from '../json/plain-json.js';
import type { MigrationCapabilities } from '../options/migration-capabilities.js';
import type { MigrationParameters } from '../options/migration-parameters.js';

export interface QemuVersion {
  major: number;
  minor: number;
  micro: number;
}

export interface QmpVersion {
  qemu: QemuVersion;
  package: string;
}

/** `ram` of `query-migrate`: bytes and pages. */
export interface MigrationRamInfo {
  total: number;
  transferred: number;
  remaining: number;
  duplicate: number;
  normal: number;
  'normal-bytes': number;
  'page-size': number;
  mbps: number;
  'dirty-sync-count': number;
  'dirty-pages-rate': number;
  'postcopy-requests': number;
  'multifd-bytes': number;
  'pages-per-second': number;
  'precopy-bytes': number;
  'downtime-bytes': number;
  'postcopy-bytes': number;
  'dirty-sync-missed-zero-copy': number;
  /** Until QEMU 9.0; always 0. */
  skipped?: number;
}

/** The answer to `query-migrate`: times in ms. Empty when there was no migration. */
export interface MigrationInfo {
  status?: string;
  ram?: MigrationRamInfo;
  /** Bytes of the whole VM; since QEMU 11.1. */
  remaining?: number;
  'total-time'?: number;
  'setup-time'?: number;
  'expected-downtime'?: number;
  downtime?: number;
  'error-desc'?: string;
  'blocked-reasons'?: string[];
  /** Where a destination listens. */
  'socket-address'?: { [member: string]: PlainJson }[];
}

export interface VmStatus {
  status: string;
  running: boolean;
  /** Until QEMU 8.x. */
  singlestep?: boolean;
}

export interface FdsetInfo {
  'fdset-id': number;
  fds: { fd: number; opaque?: string }[];
}

/** An entry of the interface's own description; which members there are depends on `meta-type`. */
export interface SchemaEntry {
  name: string;
  'meta-type': string;
  'arg-type'?: string;
  'ret-type'?: string;
  /** Of an object its members, of an enumeration its values. */
  members?: { name: string; type?: string }[];
}

/** Of `query-named-block-nodes`. */
export interface BlockNode {
  'node-name': string;
  /** Format or protocol. */
  drv: string;
  file: string;
  ro: boolean;
  encrypted?: boolean;
  detect_zeroes: string;
  cache: { direct: boolean; 'no-flush': boolean };
  image: { 'virtual-size': number };
}

/** Which nodes are below which; `name` of an edge is what the child is to its parent: `file`, `backing`. */
export interface BlockGraph {
  nodes: { id: number; type: string; name: string }[];
  edges: { parent: number; child: number; name: string }[];
}

/** `[arguments, result]` by command. */
export interface QmpCommands {
  'query-status': [undefined, VmStatus];
  'query-version': [undefined, QmpVersion];
  'query-uuid': [undefined, { UUID: string }];
  'query-migrate': [undefined, MigrationInfo];
  'query-migrationthreads': [undefined, { name: string; 'thread-id': number }[]];
  'query-migrate-parameters': [undefined, Partial<MigrationParameters>];
  'query-migrate-capabilities': [
    undefined,
    { capability: keyof MigrationCapabilities | string; state: boolean }[],
  ];
  'migrate-set-parameters': [Partial<MigrationParameters>, object];
  'migrate-set-capabilities': [{ capabilities: { capability: string; state: boolean }[] }, object];
  migrate: [{ uri?: string; channels?: PlainJson; detach?: boolean; resume?: boolean }, object];
  'migrate-incoming': [{ uri?: string; channels?: PlainJson; 'exit-on-error'?: boolean }, object];
  migrate_cancel: [undefined, object];
  'migrate-continue': [{ state: string }, object];
  stop: [undefined, object];
  cont: [undefined, object];
  quit: [undefined, object];
  'add-fd': [{ 'fdset-id'?: number; opaque?: string }, { 'fdset-id': number; fd: number }];
  'remove-fd': [{ 'fdset-id': number; fd?: number }, object];
  'query-fdsets': [undefined, FdsetInfo[]];
  getfd: [{ fdname: string }, object];
  closefd: [{ fdname: string }, object];
  'human-monitor-command': [{ 'command-line': string; 'cpu-index'?: number }, string];
  'query-cpus-fast': [undefined, { 'qom-path': string }[]];
  'query-cpu-model-expansion': [
    { type: string; model: { name: string; props?: PlainJson } },
    { model: { name: string; props?: { [name: string]: PlainJson } } },
  ];
  'query-chardev': [undefined, { label: string; filename: string; 'frontend-open': boolean }[]];
  'query-hotpluggable-cpus': [undefined, { props: { [name: string]: PlainJson }; 'qom-path'?: string }[]];
  'query-memory-devices': [undefined, { type: string; data: { [name: string]: PlainJson } }[]];
  'device-list-properties': [
    { typename: string },
    { name: string; type: string; 'default-value'?: PlainJson }[],
  ];
  'query-named-block-nodes': [{ flat: boolean }, BlockNode[]];
  'query-block': [undefined, { device: string; inserted?: BlockNode }[]];
  'x-debug-query-block-graph': [undefined, BlockGraph];
  'query-machines': [undefined, { name: string; 'default-ram-id'?: string; deprecated?: boolean }[]];
  'qom-list': [{ path: string }, { name: string; type: string }[]];
  'query-commands': [undefined, { name: string }[]];
  'query-qmp-schema': [undefined, SchemaEntry[]];
}

export type QmpCommandName = keyof QmpCommands;

/** An event as it came. */
export interface QmpEvent {
  event: string;
  data?: { [key: string]: PlainJson };
  timestamp: { seconds: number; microseconds: number };
}
