/** The ways in which QMP messages get to a server and back. */
import { Socket } from 'node:net';
import type { Duplex, Readable } from 'node:stream';
import { type PeerCredentials, peerCredentials, sendDescriptors } from '../io/socket/unix-socket.js';
import { writeJson } from '../json/json-writer.js';

/** A command as it goes over the wire. */
export interface QmpRequest {
  readonly execute: string;
  readonly arguments: unknown;
  readonly id: number;
}

export interface QmpChannel {
  /** What the server sends, from its greeting on, as text. It ends, or fails, with the connection; destroying it ends the connection. */
  readonly input: Readable;
  /** The process of the server, where that can be told. */
  readonly peer: PeerCredentials | undefined;
  readonly canPassDescriptors: boolean;
  /** See `QmpClient.address`. */
  readonly address: string | undefined;
  /** Sends a command. To be called again when the promise is settled. `descriptors` stay the caller's. */
  send(request: QmpRequest, descriptors: readonly number[]): Promise<void>;
}

/** Over a socket, or a pair of pipes. */
export class QmpStreamChannel implements QmpChannel {
  readonly #stream: Duplex;

  constructor(
    stream: Duplex,
    readonly address: string | undefined,
  ) {
    this.#stream = stream;
  }

  get input(): Readable {
    return this.#stream;
  }

  get peer(): PeerCredentials | undefined {
    const stream = this.#stream;
    return isUnixSocket(stream) && !stream.destroyed ? peerCredentials(stream) : undefined;
  }

  get canPassDescriptors(): boolean {
    return isUnixSocket(this.#stream);
  }

  async send(request: QmpRequest, descriptors: readonly number[]): Promise<void> {
    const line = `${writeJson(request)}\r\n`;
    const stream = this.#stream;
    if (descriptors.length > 0) await sendDescriptors(stream as Socket, Buffer.from(line), descriptors);
    else stream.write(line);
  }
}

function isUnixSocket(stream: Duplex): stream is Socket {
  return stream instanceof Socket && stream.remoteFamily === undefined;
}
