/** Keeps connections of strangers from taking a server's descriptors: anyone on this machine can open them. */
import type { Server, Socket } from 'node:net';

/** Connections of strangers that are open at the same time. */
const MAX_STRANGERS = 64;
/** How long a stranger's connection may take to become known, in ms, whatever comes by it. */
const STRANGER_MS = 10_000;

export interface ConnectionLimits {
  strangers?: number;
  strangerMs?: number;
}

/**
 * Every connection is a stranger's until it is known. There are never more than a few: the oldest gives way to a new one, so that a
 * flood of connections that say nothing shuts nobody out who speaks at once.
 */
export class ConnectionLimit {
  /** The oldest comes first. */
  readonly #strangers = new Map<Socket, NodeJS.Timeout>();
  readonly #limits: Required<ConnectionLimits>;

  constructor(
    server: Server,
    { strangers = MAX_STRANGERS, strangerMs = STRANGER_MS }: ConnectionLimits = {},
  ) {
    this.#limits = { strangers, strangerMs };
    server.on('connection', (socket) => this.#admit(socket));
  }

  /** The connection may stay: its client has shown that it may be served. */
  know(socket: Socket): void {
    clearTimeout(this.#strangers.get(socket));
    this.#strangers.delete(socket);
  }

  #admit(socket: Socket): void {
    const { strangers, strangerMs } = this.#limits;
    const [oldest] = this.#strangers.keys();
    if (oldest !== undefined && this.#strangers.size >= strangers) {
      this.know(oldest);
      oldest.destroy();
    }
    this.#strangers.set(socket, setTimeout(() => socket.destroy(), strangerMs).unref());
    socket.once('close', () => this.know(socket));
  }
}
