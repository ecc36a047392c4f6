import type { Socket } from 'node:net';
import { type ClientChannel, type ClientInput, endSoftly, writeTo } from './client-channel.js';
import type { DescriptorReader } from './descriptor-reader.js';

/** A channel over a Unix socket whose input, descriptors included, is read by a `DescriptorReader`. */
export class DescriptorChannel implements ClientChannel {
  readonly #socket: Socket;
  readonly #reader: DescriptorReader;

  /** @param socket paused since it was accepted: nothing was read from it */
  constructor(socket: Socket, reader: DescriptorReader) {
    this.#socket = socket;
    this.#reader = reader;
    socket.on('error', () => {});
  }

  get input(): AsyncIterable<ClientInput> {
    return this.#reader.read(this.#socket);
  }

  get unsentBytes(): number {
    return this.#socket.writableLength;
  }

  write(text: string | Uint8Array): Promise<void> {
    return writeTo(this.#socket, text);
  }

  end(): void {
    void this.#reader.release(this.#socket).then(() => endSoftly(this.#socket));
  }

  destroy(): void {
    void this.#reader.release(this.#socket).then(() => this.#socket.destroy());
  }
}
