/**
 * One client of the QMP server.
 *
 * Invariants: every request gets exactly one reply, in the order of the requests (out-of-band ones aside); events come
 * between replies, never inside; a client that does not read is not read from, and is dropped once too much waits.
 */

import { closeSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { defined } from '../defined.js';
import { errorReason, MapramError } from '../errors.js';
import { type JsonLimits, type JsonMessage, JsonReader } from '../json/json-reader.js';
import type { JsonObject, JsonValue } from '../json/json-value.js';
import { writeJson } from '../json/json-writer.js';
import { OptionError } from '../options/option-error.js';
import { checkQapi, isJsonObject } from '../options/qapi.js';
import { QmpError } from '../qmp/qmp-error.js';
import type { ClientChannel } from './client-channel.js';
import { CommandError } from './command-error.js';
import type { MonitorEvent, MonitorServices } from './monitor-services.js';

/** QEMU would take 64 MiB; the longest sensible request is a few kilobytes. */
const REQUEST_LIMITS: JsonLimits = { maxBytes: 1 << 20, maxTokens: 1 << 17, maxDepth: 1024 };
/** Requests taken in before the first of them is answered. */
const MAX_QUEUED_REQUESTS = 8;
/** How long the last replies may take when the connection is ended, in ms. */
const LAST_REPLY_MS = 1000;
/** Bytes that wait for a client before it is dropped. */
const MAX_UNSENT_BYTES = 8 << 20;

interface Request {
  readonly message: JsonMessage;
  /** A descriptor for this request alone. */
  readonly descriptor: number | undefined;
}

interface Call {
  readonly command: string;
  readonly args: JsonObject;
  readonly id: JsonValue | undefined;
  readonly outOfBand: boolean;
}

export class QmpSession {
  readonly #monitor: MonitorServices;
  readonly #channel: ClientChannel;
  readonly #reader = new JsonReader(REQUEST_LIMITS);
  #negotiated = false;
  #outOfBandEnabled = false;
  /** Came last, and no request has taken it. */
  #descriptor: number | undefined;
  #queued = 0;
  #lastReply: Promise<void> = Promise.resolve();
  #slotFreed: (() => void) | undefined;
  #closed = false;

  constructor(monitor: MonitorServices, channel: ClientChannel) {
    this.#monitor = monitor;
    this.#channel = channel;
  }

  /** Serves the client until it, or the monitor, ends the connection. */
  async run(): Promise<void> {
    await this.#send({ QMP: { version: this.#monitor.backend.version, capabilities: ['oob'] } });
    try {
      for await (const { bytes, descriptors } of this.#channel.input) {
        if (descriptors.length > 0) this.#keepFirst(descriptors);
        for (const message of this.#reader.push(bytes)) {
          await this.#accept(message);
          if (message.error !== undefined && message.fatal) return;
          if (this.#closed) return;
        }
      }
    } finally {
      await this.#lastReply;
      this.#closed = true;
      this.#keepFirst([]);
      this.#channel.end();
    }
  }

  /** Passes an event on, if the client has negotiated. */
  event(event: MonitorEvent): void {
    if (!this.#negotiated || this.#closed) return;
    void this.#send(event);
  }

  /** Ends the connection after the replies that are due, or without them where the client does not read, or QEMU does not answer, in time. */
  async close(): Promise<void> {
    this.#closed = true;
    await Promise.race([this.#lastReply, delay(LAST_REPLY_MS, undefined, { ref: false })]);
    this.#channel.end();
  }

  async #accept(message: JsonMessage): Promise<void> {
    const request = { message, descriptor: this.#descriptorFor(message) };
    if (this.#isOutOfBand(message)) {
      await this.#answer(request);
      return;
    }
    while (this.#queued >= MAX_QUEUED_REQUESTS) {
      await new Promise<void>((resolve) => {
        this.#slotFreed = resolve;
      });
    }
    this.#queued++;
    this.#lastReply = this.#lastReply.then(async () => {
      await this.#answer(request);
      this.#queued--;
      this.#slotFreed?.();
    });
  }

  async #answer({ message, descriptor }: Request): Promise<void> {
    let spare = descriptor;
    const takeDescriptor = () => {
      const taken = spare;
      spare = undefined;
      return taken;
    };
    const reply = await this.#reply(message, takeDescriptor);
    if (spare !== undefined) closeSync(spare);
    await this.#send(reply);
  }

  async #reply(message: JsonMessage, takeDescriptor: () => number | undefined): Promise<JsonObject> {
    const id = isJsonObject(message.value) ? message.value.id : undefined;
    const echo: JsonObject = defined({ id });
    try {
      const call = parseCall(message, this.#outOfBandEnabled);
      const result = await this.#execute(call, takeDescriptor);
      return { return: (result ?? {}) as JsonValue, ...echo };
    } catch (error) {
      return { ...echo, error: describeError(error) };
    }
  }

  async #execute(call: Call, takeDescriptor: () => number | undefined): Promise<unknown> {
    const { command, args } = call;
    if (command === 'qmp_capabilities') return this.#negotiate(args);
    if (!this.#negotiated) {
      throw new CommandError("Expecting capabilities negotiation with 'qmp_capabilities'", 'CommandNotFound');
    }
    return this.#monitor.execute(command, args, { takeDescriptor, outOfBand: call.outOfBand });
  }

  #negotiate(args: JsonObject): void {
    if (this.#negotiated) {
      throw new CommandError(
        'Capabilities negotiation is already complete, command ignored',
        'CommandNotFound',
      );
    }
    const capability = { kind: 'enum', values: ['oob'] } as const;
    const { enable = [] } = checkQapi(
      {
        kind: 'struct',
        members: { enable: { type: { kind: 'array', of: capability }, optional: true } },
      } as const,
      args,
    );
    this.#outOfBandEnabled = enable.includes('oob');
    this.#negotiated = true;
  }

  #isOutOfBand({ value }: JsonMessage): boolean {
    return this.#outOfBandEnabled && isJsonObject(value) && Object.hasOwn(value, 'exec-oob');
  }

  /** The descriptor for a request that takes one. */
  #descriptorFor({ value }: JsonMessage): number | undefined {
    const name = isJsonObject(value) ? value.execute : undefined;
    if (typeof name !== 'string' || !this.#monitor.takesDescriptor(name)) return undefined;
    const taken = this.#descriptor;
    this.#descriptor = undefined;
    return taken;
  }

  /** The others that came with it are closed, as QEMU does, and so is one that came before. */
  #keepFirst([first, ...others]: readonly number[]): void {
    if (this.#descriptor !== undefined) closeSync(this.#descriptor);
    for (const fd of others) closeSync(fd);
    this.#descriptor = first;
  }

  async #send(message: object): Promise<void> {
    if (this.#channel.unsentBytes > MAX_UNSENT_BYTES) {
      this.#closed = true;
      this.#channel.destroy();
      return;
    }
    await this.#channel.write(`${writeJson(message)}\r\n`);
  }
}

/** @throws CommandError with QEMU's text when the message is no request */
function parseCall({ value, error }: JsonMessage, outOfBandEnabled: boolean): Call {
  if (error !== undefined) throw new CommandError(error);
  if (!isJsonObject(value)) throw new CommandError('QMP input must be a JSON object');
  const { execute, 'exec-oob': execOob, arguments: args, id } = value;
  const known = new Set(['execute', 'arguments', 'id', ...(outOfBandEnabled ? ['exec-oob'] : [])]);
  const [unexpected] = Object.keys(value).filter((key) => !known.has(key));
  if (unexpected !== undefined) {
    throw new CommandError(`QMP input member '${unexpected}' is unexpected`);
  }
  if (execute !== undefined && execOob !== undefined) {
    throw new CommandError("QMP input member 'exec-oob' clashes with 'execute'");
  }
  const outOfBand = execOob !== undefined;
  const name = outOfBand ? execOob : execute;
  if (name === undefined) throw new CommandError("QMP input lacks member 'execute'");
  if (typeof name !== 'string') {
    throw new CommandError(`QMP input member '${outOfBand ? 'exec-oob' : 'execute'}' must be a string`);
  }
  if (args !== undefined && !isJsonObject(args)) {
    throw new CommandError("QMP input member 'arguments' must be an object");
  }
  return { command: name, args: args ?? {}, id, outOfBand };
}

function describeError(error: unknown): JsonObject {
  if (error instanceof CommandError) return { class: error.errorClass, desc: error.message };
  if (error instanceof QmpError) return { class: error.errorClass, desc: error.description };
  if (error instanceof OptionError || error instanceof MapramError) {
    return { class: 'GenericError', desc: error.message };
  }
  return { class: 'GenericError', desc: `mapram failed unexpectedly: ${errorReason(error)}` };
}
