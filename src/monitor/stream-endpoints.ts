/** Where migrations of the builtin guest go to and come from when they are streams: all of QEMU's addresses but VSOCK and RDMA. */

import { MapramError } from '../errors.js';
import { duplicateDescriptor } from '../io/descriptor.js';
import { seekFile } from '../io/file/file-position.js';
import { truncateFile } from '../io/file/file-space.js';
import { releaseFiles } from '../io/file/open-file.js';
import { DescriptorListener } from '../io/socket/descriptor-listener.js';
import { systemErrorText } from '../io/system-error-text.js';
import type { JsonObject } from '../json/json-value.js';
import {
  CommandConnection,
  connectAll,
  FileConnection,
  passedConnection,
  SocketConnections,
  type StreamConnections,
  type StreamEndpoint,
} from '../migration/receiver/stream-connections.js';
import type { FileAddress, MigrationSocket } from '../options/migration-address.js';
import type { FileMigrationRequest, MigrationRequest } from './backend.js';
import { CommandError } from './command-error.js';
import { openIncoming, openOutgoing, truncating } from './migration-target.js';

/** An endpoint that others connect to. */
export interface StreamSource extends StreamEndpoint {
  /** What `query-migrate` tells of where it listens. */
  readonly addresses?: readonly JsonObject[];
}

type InetAddress = Extract<MigrationSocket, { type: 'inet' }>;

/**
 * The way out. Opens what can be opened at once; sockets are connected later.
 *
 * @param count of connections
 * @throws CommandError or MapramError with the text for the client
 */
export async function openStreamTarget(request: MigrationRequest, count: number): Promise<StreamEndpoint> {
  const endpoint = await open(request, 'out', (address) => {
    const target = address.type === 'unix' ? unixPath(address) : inetTarget(address);
    return {
      name: nameOf(address),
      connect: (signal) => connectAll(target, count, signal),
      dispose: async () => {},
    };
  });
  return withoutTls(request, endpoint);
}

/** The way in; listens where others are to connect. As `openStreamTarget`. */
export async function openStreamSource(request: MigrationRequest, count: number): Promise<StreamSource> {
  return withoutTls(request, await open(request, 'in', (address) => listen(address, count)));
}

/** What is to go out encrypted does not go out in the clear: the builtin guest has no credentials. */
function withoutTls<Endpoint extends StreamEndpoint>(
  { parameters }: MigrationRequest,
  endpoint: Endpoint,
): Endpoint {
  const credentials = parameters['tls-creds'];
  if (credentials === '') return endpoint;
  return {
    ...endpoint,
    async connect(signal: AbortSignal) {
      const connections = await endpoint.connect(signal);
      await connections.close();
      throw new MapramError('MIGRATION', `No TLS credentials with id '${credentials}'`);
    },
  };
}

async function open(
  request: MigrationRequest,
  way: 'out' | 'in',
  openSocket: (address: UnixAddress | InetAddress) => StreamSource | Promise<StreamSource>,
): Promise<StreamSource> {
  const { address, descriptors } = request;
  switch (address.transport) {
    case 'file': {
      const openFile = way === 'out' ? outgoingFile : incomingFile;
      return opened(`file:${address.filename}`, openFile({ ...request, address }));
    }
    case 'exec':
      return opened('exec:', await startCommand(address.args, way));
    case 'rdma':
      throw notServed('RDMA');
    case 'socket':
      break;
  }
  switch (address.type) {
    case 'fd':
      return opened(`fd:${address.str}`, passedConnection(descriptors.takeForMigration(address.str), way));
    case 'vsock':
      throw notServed('VSOCK');
    default:
      return await openSocket(address);
  }
}

/** What is open already. */
function opened(name: string, connections: StreamConnections): StreamEndpoint {
  let taken = false;
  return {
    name,
    async connect() {
      taken = true;
      return connections;
    },
    async dispose() {
      if (!taken) await connections.close();
    },
  };
}

async function startCommand(args: readonly string[], direction: 'in' | 'out'): Promise<StreamConnections> {
  // QEMU 10.0 ends here.
  if (args.length === 0) throw new CommandError("Parameter 'args' expects a program");
  return await CommandConnection.start(args, direction);
}

function outgoingFile(request: FileMigrationRequest): StreamConnections {
  using target = openOutgoing(request);
  const fd = duplicateDescriptor(target.file.mainFd);
  return placed(fd, request.address, () =>
    truncating(request.address, () => truncateFile(fd, request.address.offset)),
  );
}

function incomingFile(request: FileMigrationRequest): StreamConnections {
  using target = openIncoming(request);
  return placed(duplicateDescriptor(target.file.mainFd), request.address);
}

/** At offset 0 QEMU leaves a descriptor that it was given where it is. */
function placed(fd: number, { offset }: FileAddress, prepare: () => void = () => {}): StreamConnections {
  try {
    prepare();
    if (offset > 0) seekFile(fd, offset);
    return new FileConnection(fd);
  } catch (error) {
    releaseFiles([fd]);
    throw error;
  }
}

async function listen(address: UnixAddress | InetAddress, count: number): Promise<StreamSource> {
  const name = nameOf(address);
  let listener: DescriptorListener;
  try {
    listener = await DescriptorListener.listen(
      address.type === 'unix' ? { path: unixPath(address) } : inetSource(address),
    );
  } catch (cause) {
    const text = systemErrorText(cause);
    if (text === undefined) throw cause;
    const target = address.type === 'unix' ? address.path : `${address.host}:${address.port}`;
    throw new CommandError(`Failed to bind socket to ${target}: ${text}`);
  }
  const { bound } = listener;
  const inet = bound && {
    type: 'inet',
    host: bound.address,
    port: String(bound.port),
    [bound.family === 'IPv6' ? 'ipv6' : 'ipv4']: true,
  };
  return {
    name,
    addresses: [inet ?? { type: 'unix', path: (address as UnixAddress).path }],
    async connect(signal) {
      const fds: number[] = [];
      try {
        while (fds.length < count) fds.push(await listener.accept(signal));
        return new SocketConnections(fds);
      } catch (error) {
        releaseFiles(fds);
        throw error;
      } finally {
        await listener.close();
      }
    },
    dispose: () => listener.close(),
  };
}

type UnixAddress = Extract<MigrationSocket, { type: 'unix' }>;

function unixPath({ path, abstract }: UnixAddress): string {
  return abstract ? `\0${path}` : path;
}

function inetTarget(address: InetAddress): { host: string; port: number } {
  return { host: address.host || 'localhost', port: portOf(address) };
}

/** Without a host QEMU listens everywhere; here, where nobody is asked for a password, only this host is let in. */
function inetSource(address: InetAddress): { host: string; port: number } {
  const host = address.host === '0' ? '0.0.0.0' : address.host || '127.0.0.1';
  return { host, port: portOf(address) };
}

function portOf({ host, port }: InetAddress): number {
  if (!/^\d{1,5}$/.test(port) || Number(port) > 65535)
    throw new CommandError(
      `address resolution failed for ${host}:${port}: Servname not supported for ai_socktype`,
    );
  return Number(port);
}

function nameOf(address: UnixAddress | InetAddress): string {
  return address.type === 'unix' ? `unix:${address.path}` : `tcp:${address.host}:${address.port}`;
}

function notServed(what: string): CommandError {
  return new CommandError(
    `The builtin guest cannot be migrated over ${what}; use unix:, tcp:, fd:, exec: or file:`,
  );
}
