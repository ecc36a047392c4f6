/** Where a migration goes to or comes from: the `uri` and `channels` arguments of `migrate` and `migrate-incoming`. */
import type { MigrationCapabilities } from './migration-capabilities.js';
import type { MigrationParameters } from './migration-parameters.js';
import { OptionError } from './option-error.js';
import type { QapiStruct, QapiType, QapiUnion } from './qapi.js';
import { isAtLeast, type QemuProfile } from './qemu-profile.js';
import { parseSizeText } from './size-text.js';

export type MigrationAddress =
  | FileAddress
  | { readonly transport: 'exec'; readonly args: readonly string[] }
  | { readonly transport: 'rdma'; readonly host: string; readonly port: string }
  | ({ readonly transport: 'socket' } & MigrationSocket);

export interface FileAddress {
  readonly transport: 'file';
  /** A path, or `/dev/fdset/N`. */
  readonly filename: string;
  /** Where the image begins in the file. */
  readonly offset: number;
}

export type MigrationSocket =
  | { readonly type: 'inet'; readonly host: string; readonly port: string }
  | { readonly type: 'unix'; readonly path: string; readonly abstract?: boolean }
  | { readonly type: 'vsock'; readonly cid: string; readonly port: string }
  | { readonly type: 'fd'; readonly str: string };

const str = { kind: 'str' } as const;
const bool = { kind: 'bool' } as const;
const uint16 = { kind: 'integer', width: 'uint16' } as const;

const inetMembers = {
  host: { type: str },
  port: { type: str },
  numeric: { type: bool, optional: true },
  to: { type: uint16, optional: true },
  ipv4: { type: bool, optional: true },
  ipv6: { type: bool, optional: true },
  'keep-alive': { type: bool, optional: true },
  mptcp: { type: bool, optional: true },
} as const;

/** Where something listens or connects. */
export const SOCKET_ADDRESS: QapiUnion = {
  kind: 'union',
  tag: 'type',
  cases: {
    inet: { kind: 'struct', members: inetMembers },
    unix: {
      kind: 'struct',
      members: {
        path: { type: str },
        abstract: { type: bool, optional: true },
        tight: { type: bool, optional: true },
      },
    },
    vsock: { kind: 'struct', members: { cid: { type: str }, port: { type: str } } },
    fd: { kind: 'struct', members: { str: { type: str } } },
  },
};

const migrationAddress: QapiUnion = {
  kind: 'union',
  tag: 'transport',
  cases: {
    socket: SOCKET_ADDRESS,
    exec: { kind: 'struct', members: { args: { type: { kind: 'array', of: str } } } },
    rdma: { kind: 'struct', members: inetMembers },
    file: {
      kind: 'struct',
      members: { filename: { type: str }, offset: { type: { kind: 'integer', width: 'uint64' } } },
    },
  },
};

/** The `channels` argument, since 8.2. */
export function channelsType(profile: QemuProfile): QapiType {
  const kinds = isAtLeast(profile.release, [10, 0]) ? ['main', 'cpr'] : ['main'];
  const channel: QapiStruct = {
    kind: 'struct',
    members: {
      'channel-type': { type: { kind: 'enum', values: kinds } },
      addr: { type: migrationAddress },
    },
  };
  return { kind: 'array', of: channel };
}

interface ChannelArgument {
  'channel-type': string;
  addr: { transport: string; [member: string]: unknown };
}

/**
 * The address that `uri` or `channels` (already checked against its type) names.
 *
 * @throws OptionError with QEMU's text
 */
export function parseMigrationTarget(
  profile: QemuProfile,
  { uri, channels }: { uri?: string; channels?: unknown },
): MigrationAddress {
  const list = (channels ?? []) as ChannelArgument[];
  const hasChannels = list.length > 0;
  if (hasChannels ? uri !== undefined : uri === undefined) {
    throw new OptionError("need either 'uri' or 'channels' argument");
  }
  if (uri !== undefined) return parseMigrationUri(profile, uri);
  const mains = list.filter((channel) => channel['channel-type'] === 'main');
  if (mains.length > 1) throw new OptionError('Channel list has more than one main entry');
  const [main] = mains;
  if (main === undefined) throw new OptionError('Channel list has no main entry');
  return asAddress(main.addr);
}

function asAddress(addr: ChannelArgument['addr']): MigrationAddress {
  const { transport } = addr;
  if (transport === 'file') {
    return {
      transport,
      filename: addr.filename as string,
      offset: fileOffset(BigInt(addr.offset as number)),
    };
  }
  return addr as unknown as MigrationAddress;
}

/** `file:PATH[,offset=N]`, `exec:COMMAND`, `tcp:…`, `unix:…`, `vsock:…`, `fd:…`, `rdma:…`. */
function parseMigrationUri(profile: QemuProfile, uri: string): MigrationAddress {
  const rest = (scheme: string) => uri.slice(scheme.length);
  if (uri.startsWith('exec:')) return { transport: 'exec', args: ['/bin/sh', '-c', rest('exec:')] };
  if (uri.startsWith('rdma:')) return { transport: 'rdma', ...parseInet(rest('rdma:')) };
  if (uri.startsWith('tcp:')) return { transport: 'socket', type: 'inet', ...parseInet(rest('tcp:')) };
  if (uri.startsWith('unix:')) return parseUnix(rest('unix:'));
  if (uri.startsWith('vsock:')) return parseVsock(rest('vsock:'));
  if (uri.startsWith('fd:')) return parseFd(profile, rest('fd:'));
  if (uri.startsWith('file:') && servesFiles(profile)) return parseFile(rest('file:'));
  throw new OptionError(
    isAtLeast(profile.release, [8, 2])
      ? `unknown migration protocol: ${uri}`
      : "Parameter 'uri' expects a valid migration protocol",
  );
}

/** `file:` came with 8.2; a profile that adds mapped-ram to an older release adds it too. */
function servesFiles(profile: QemuProfile): boolean {
  return isAtLeast(profile.release, [8, 2]) || profile.added.has('mapped-ram');
}

const OFFSET_OPTION = ',offset=';

function parseFile(text: string): FileAddress {
  const at = text.indexOf(OFFSET_OPTION);
  if (at === -1) return { transport: 'file', filename: text, offset: 0 };
  const offsetText = text.slice(at + OFFSET_OPTION.length);
  const offset = parseSizeText(offsetText);
  if ('fault' in offset) {
    const reason = offset.fault === 'malformed' ? 'Invalid argument' : 'Numerical result out of range';
    throw new OptionError(`file URI has bad offset ${offsetText}: ${reason}`);
  }
  return { transport: 'file', filename: text.slice(0, at), offset: fileOffset(offset.bytes) };
}

/** Linux has no offsets beyond 2^63-1, and JavaScript counts exactly to 2^53-1: 8 PiB. */
function fileOffset(bytes: bigint): number {
  if (bytes > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new OptionError(`file URI has bad offset ${bytes}: Numerical result out of range`);
  }
  return Number(bytes);
}

function parseUnix(path: string): MigrationAddress {
  if (path === '') throw new OptionError('invalid Unix socket address');
  return { transport: 'socket', type: 'unix', path };
}

function parseFd(profile: QemuProfile, name: string): MigrationAddress {
  if (name === '' && isAtLeast(profile.release, [8, 2])) {
    throw new OptionError('invalid file descriptor address');
  }
  return { transport: 'socket', type: 'fd', str: name };
}

function parseVsock(text: string): MigrationAddress {
  const match = /^([^:]+):([^:,]+)$/.exec(text);
  if (match === null) throw new OptionError(`error parsing address '${text}'`);
  return { transport: 'socket', type: 'vsock', cid: match[1] as string, port: match[2] as string };
}

/** `HOST:PORT`, `[IPV6]:PORT`, `:PORT`, each with options after a comma that only QEMU needs to know. */
function parseInet(text: string): { host: string; port: string } {
  const match = /^(?:\[([^\]]+)\]|([^:,[]*)):([^:,]+)(?:,.*)?$/.exec(text);
  if (match === null) throw new OptionError(`error parsing address '${text}'`);
  return { host: match[1] ?? match[2] ?? '', port: match[3] as string };
}

/**
 * Whether what the capabilities ask of the transport is there: places to seek to, more than one channel.
 *
 * @throws OptionError with QEMU's text
 */
export function checkTransport(
  profile: QemuProfile,
  address: MigrationAddress,
  capabilities: MigrationCapabilities,
): void {
  if (capabilities['mapped-ram'] && address.transport !== 'file') {
    throw new OptionError('Migration requires seekable transport (e.g. file)');
  }
  if (capabilities.multifd && !hasManyChannels(address, capabilities) && isAtLeast(profile.release, [8, 2])) {
    throw new OptionError('Migration requires multi-channel URIs (e.g. tcp)');
  }
}

/**
 * What was switched on after it could still be refused, what mapped-ram cannot do, and what the modes for a restart on this host (cpr) exclude.
 *
 * @throws OptionError with QEMU's text
 */
export function checkMigration(
  profile: QemuProfile,
  capabilities: MigrationCapabilities,
  parameters: MigrationParameters,
): void {
  if (capabilities['mapped-ram']) {
    if (parameters['tls-creds'] !== '') throw new OptionError('Cannot use TLS with mapped-ram');
    if (parameters['multifd-compression'] !== 'none') {
      throw new OptionError('Cannot use compression with mapped-ram');
    }
  }
  // 8.2 has the mode cpr-reboot without these checks. Seen with 10.0.2.
  if (parameters.mode !== 'normal' && isAtLeast(profile.release, [9, 0])) {
    const conflict = conflictWithCpr(capabilities);
    if (conflict !== undefined) throw new OptionError(`Cannot use ${conflict} with CPR`);
    // From QEMU's source: 10.2 is the first release with that mode.
    if (parameters.mode === 'cpr-exec' && parameters['cpr-exec-command'].length === 0) {
      throw new OptionError("Parameter 'cpr-exec-command' required for cpr-exec");
    }
  }
}

function conflictWithCpr(capabilities: MigrationCapabilities): string | undefined {
  if (capabilities['postcopy-ram'] || capabilities['dirty-bitmaps']) return 'postcopy';
  if (capabilities['background-snapshot']) return 'background snapshot';
  return capabilities['x-colo'] ? 'COLO' : undefined;
}

function hasManyChannels(address: MigrationAddress, capabilities: MigrationCapabilities): boolean {
  if (address.transport === 'file') return capabilities['mapped-ram'];
  return address.transport === 'socket' && address.type !== 'fd';
}
