import { once } from 'node:events';
import { createConnection, type Socket } from 'node:net';
import { JsonReader } from '../../src/json/json-reader.js';
import type { JsonObject, JsonValue } from '../../src/json/json-value.js';
import { isJsonObject } from '../../src/options/qapi.js';

/** A QMP client that checks nothing: sends any text, and keeps replies and events apart, in order. */
export class RawClient {
  readonly #socket: Socket;
  readonly #reader = new JsonReader();
  readonly #replies = new Mailbox<JsonObject>();
  readonly #events = new Mailbox<JsonObject>();
  closed = false;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('data', (chunk) => {
      for (const { value } of this.#reader.push(chunk)) this.#take(value);
    });
    socket.on('error', () => {});
    socket.on('close', () => {
      this.closed = true;
      this.#replies.end();
      this.#events.end();
    });
  }

  static async connect(path: string): Promise<RawClient> {
    const socket = createConnection({ path });
    await once(socket, 'connect');
    return new RawClient(socket);
  }

  send(text: string): void {
    this.#socket.write(text);
  }

  /** The next message that is no event; undefined at the end of the connection. */
  reply(): Promise<JsonObject | undefined> {
    return this.#replies.next();
  }

  event(): Promise<JsonObject | undefined> {
    return this.#events.next();
  }

  async ask(command: string, args?: object): Promise<JsonObject | undefined> {
    this.send(`${JSON.stringify({ execute: command, arguments: args })}\n`);
    return this.reply();
  }

  /** Reads the greeting and negotiates. */
  async negotiate(): Promise<void> {
    await this.reply();
    await this.ask('qmp_capabilities');
  }

  get socket(): Socket {
    return this.#socket;
  }

  destroy(): void {
    this.#socket.destroy();
  }

  #take(value: JsonValue | undefined): void {
    if (!isJsonObject(value)) return;
    (typeof value.event === 'string' ? this.#events : this.#replies).put(value);
  }
}

class Mailbox<T> {
  readonly #values: T[] = [];
  readonly #readers: ((value: T | undefined) => void)[] = [];
  #ended = false;

  put(value: T): void {
    const reader = this.#readers.shift();
    if (reader) reader(value);
    else this.#values.push(value);
  }

  end(): void {
    this.#ended = true;
    for (const reader of this.#readers.splice(0)) reader(undefined);
  }

  next(): Promise<T | undefined> {
    const value = this.#values.shift();
    if (value !== undefined || this.#ended) return Promise.resolve(value);
    return new Promise((resolve) => this.#readers.push(resolve));
  }
}
