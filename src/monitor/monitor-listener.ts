/**
 * The listening sockets of a monitor.
 *
 * A Unix socket is made for this user alone (0600). A file left behind by a process that is gone is replaced, one that
 * somebody listens on is not. TCP is listened on only where it was asked for.
 */
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { errorReason, MapramError } from '../errors.js';
import { listenPrivately, removeStaleSocket } from '../io/socket/listening.js';
import { formatSocketAddress, parseSocketAddress, type SocketAddress } from '../qmp/socket-address.js';
import { type ClientChannel, StreamChannel } from './client-channel.js';
import { DescriptorChannel } from './descriptor-channel.js';
import { DescriptorReader } from './descriptor-reader.js';

/** Clients served at the same time on one socket; more are turned away. */
const MAX_CLIENTS = 256;

export class MonitorListener {
  /** Where it listens; for TCP with the port that was really taken. */
  readonly address: string;
  readonly #server: Server;
  readonly #reader: DescriptorReader | undefined;
  readonly #channels = new Set<ClientChannel>();
  readonly #sockets = new Set<Socket>();

  private constructor(
    server: Server,
    address: string,
    reader: DescriptorReader | undefined,
    onClient: (channel: ClientChannel) => void,
  ) {
    this.#server = server;
    this.#reader = reader;
    this.address = address;
    server.on('connection', (socket) => {
      const channel = reader ? new DescriptorChannel(socket, reader) : new StreamChannel(socket);
      this.#channels.add(channel);
      this.#sockets.add(socket);
      socket.once('close', () => {
        this.#channels.delete(channel);
        this.#sockets.delete(socket);
      });
      onClient(channel);
    });
  }

  /**
   * @param onClient called with every connection
   * @throws MapramError `BUSY` somebody listens there already; `EXISTS` the path is not a socket; `MONITOR` otherwise
   */
  static async open(address: string, onClient: (channel: ClientChannel) => void): Promise<MonitorListener> {
    const parsed = parseListenAddress(address);
    const local = !('port' in parsed);
    if ('path' in parsed) await removeStaleSocket(parsed.path);
    const reader = local && process.platform === 'linux' ? new DescriptorReader() : undefined;
    const server = createServer({ pauseOnConnect: reader !== undefined });
    server.maxConnections = MAX_CLIENTS;
    try {
      await listenPrivately(server, parsed);
    } catch (error) {
      await reader?.close();
      throw cannotListen(address, error);
    }
    server.on('error', () => {});
    return new MonitorListener(server, boundAddress(server, address, parsed), reader, onClient);
  }

  /** Takes no more clients, and removes the socket file. */
  async stopListening(): Promise<void> {
    if (this.#server.listening) this.#server.close();
  }

  /** Ends all connections; those that are ending already may finish. */
  async close(): Promise<void> {
    await this.stopListening();
    for (const channel of this.#channels) channel.end();
    await Promise.all([...this.#sockets].map((socket) => closedWithin(socket)));
    for (const channel of this.#channels) channel.destroy();
    await Promise.all([...this.#sockets].map((socket) => closedWithin(socket)));
    await this.#reader?.close();
  }
}

type ListenAddress = SocketAddress | { readonly fd: number };

/** Beside the addresses of sockets: `fd:N`, a Unix socket that whoever started this process has bound and listens on. */
function parseListenAddress(text: string): ListenAddress {
  const inherited = /^fd:(\d{1,9})$/.exec(text);
  return inherited ? { fd: Number(inherited[1]) } : parseSocketAddress(text);
}

/** How long a client may take to fetch the last reply, in ms. */
const LAST_REPLY_MS = 1000;

/** Resolves when the socket is closed, or has been given time enough. */
function closedWithin(socket: Socket): Promise<void> {
  if (socket.closed) return Promise.resolve();
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, LAST_REPLY_MS);
    socket.once('close', () => {
      clearTimeout(timer);
      resolve();
    });
  });
}

function boundAddress(server: Server, text: string, address: ListenAddress): string {
  if ('fd' in address) return text;
  if ('path' in address) return address.path;
  return formatSocketAddress({ host: address.host, port: (server.address() as AddressInfo).port });
}

function cannotListen(name: string, error: unknown): MapramError {
  const busy = (error as NodeJS.ErrnoException).code === 'EADDRINUSE';
  return new MapramError(
    busy ? 'BUSY' : 'MONITOR',
    `cannot listen on ${name}: ${busy ? 'it is in use already' : errorReason(error)}`,
    { path: name, cause: error },
  );
}
