/**
 * A client of QEMU's machine protocol: one connection, many commands in flight, events beside them.
 *
 * Invariants: every command settles, with its own reply (matched by id) or with the error that ended the connection;
 * commands go out in the order of the calls; an event iterator ends when the client is closed and fails when the
 * connection is lost.
 */

import { once } from 'node:events';
import { statSync } from 'node:fs';
import { createConnection, type Socket } from 'node:net';
import path from 'node:path';
import type { Duplex, Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import * as v from 'valibot';
import {
  signal as abortSignal,
  assertArguments,
  assertOptions,
  optionsOf,
  text,
  wholeNumber,
} from '../checked-options.js';
import { defined } from '../defined.js';
import { errorReason, MapramError } from '../errors.js';
import type { PeerCredentials } from '../io/socket/unix-socket.js';
import { hasErrno } from '../io/system-error.js';
import { JsonReader } from '../json/json-reader.js';
import type { JsonObject, JsonValue } from '../json/json-value.js';
import { type PlainJson, toPlainJson } from '../json/plain-json.js';
import { isJsonObject } from '../options/qapi.js';
import { EventQueue } from './event-queue.js';
import { DomainChannel } from './libvirt/domain-channel.js';
import { formatLibvirtAddress, parseLibvirtAddress } from './libvirt/libvirt-address.js';
import { type QmpChannel, type QmpRequest, QmpStreamChannel } from './qmp-channel.js';
import type { QmpCommandName, QmpCommands, QmpEvent, QmpVersion } from './qmp-commands.js';
import { QmpError, type QmpErrorClass } from './qmp-error.js';
import { whyNotReply } from './reply-schemas.js';
import { formatSocketAddress, parseSocketAddress } from './socket-address.js';

export interface QmpConnectOptions {
  /** Gives up connecting. Has no effect later. */
  readonly signal?: AbortSignal | undefined;
  /** How long to wait for the connection and the greeting, in ms; 10 s by default, `Infinity` without limit. */
  readonly timeoutMs?: number | undefined;
  /** What to call the other side in errors, where it cannot be told from the address. */
  readonly name?: string | undefined;
}

export interface QmpExecuteOptions {
  /** Stops waiting for the reply; the command itself goes on in QEMU. */
  readonly signal?: AbortSignal | undefined;
  /** Stops waiting after this many ms; forever by default. */
  readonly timeoutMs?: number | undefined;
  /** Descriptors to pass along (see `canPassDescriptors`), for `add-fd` and `getfd`. They stay the caller's. */
  readonly descriptors?: readonly number[] | undefined;
}

/** How long commands wait that say nothing about that themselves. */
export interface QmpPatience {
  /**
   * Ends the waits that are under way. Commands that are sent later, to put things right, get 5 s each; once one has had no
   * answer, those after it fail at once.
   */
  readonly signal?: AbortSignal | undefined;
  /** Called when a command has waited for 10 s. */
  readonly onSilence?: ((command: string) => void) | undefined;
}

/** What is said of a QEMU that is silent, for `QmpPatience`. */
export function silenceWarning(warn: ((message: string) => void) | undefined): (command: string) => void {
  return (command) => warn?.(`QEMU has not answered ${command} for ${SILENCE_MS / 1000} s`);
}

export interface QmpEventsOptions {
  /** Only events of these names. */
  readonly names?: readonly string[] | undefined;
  /** Ends the iterator. */
  readonly signal?: AbortSignal | undefined;
}

const milliseconds = v.optional(
  v.pipe(v.number('a number of milliseconds'), v.minValue(0, 'a number of milliseconds')),
);

const ConnectOptionsSchema = optionsOf<QmpConnectOptions>({
  signal: abortSignal,
  timeoutMs: milliseconds,
  name: v.optional(text),
});

const ExecuteOptionsSchema = optionsOf<QmpExecuteOptions>({
  signal: abortSignal,
  timeoutMs: milliseconds,
  descriptors: v.optional(v.array(wholeNumber(0), 'an array of descriptors')),
});

const EventsOptionsSchema = optionsOf<QmpEventsOptions>({
  names: v.optional(v.array(text, 'an array of names of events')),
  signal: abortSignal,
});

const TargetSchema = v.custom<string | Duplex>(
  (value) => (typeof value === 'string' && value !== '') || isStream(value),
  'a socket path, unix:PATH, tcp:HOST:PORT, libvirt:DOMAIN or a stream that is connected',
);

function isStream(value: unknown): boolean {
  return typeof value === 'object' && value !== null && typeof (value as Duplex).write === 'function';
}

/** A reply without its id. */
export type ForwardedReply = { readonly return: JsonValue } | { readonly error: JsonObject };

interface PendingCommand {
  readonly command: string;
  readonly settle: (reply: ForwardedReply) => void;
  readonly reject: (error: unknown) => void;
}

const GREETING_TIMEOUT_MS = 10_000;
/** Of `QmpPatience`. */
const AFTER_ABORT_MS = 5_000;
const SILENCE_MS = 10_000;
/** Between attempts to get into the queue of those who wait for a monitor. */
const FIRST_PAUSE_MS = 20;
const LONGEST_PAUSE_MS = 1000;
/** Events that may wait in one iterator; a reader that is further behind has gone away. */
const MAX_UNREAD_EVENTS = 100_000;

export class QmpClient implements AsyncDisposable {
  /** What the server said of itself. */
  readonly version: QmpVersion;
  /** What the server can do beyond plain QMP: `oob`. */
  readonly capabilities: readonly string[];
  /** The other side, for people. */
  readonly name: string;
  readonly #channel: QmpChannel;
  readonly #pending = new Map<number, PendingCommand>();
  readonly #listeners = new Set<{ names: ReadonlySet<string> | undefined; queue: EventQueue<QmpEvent> }>();
  #nextId = 1;
  #lastWrite: Promise<void> = Promise.resolve();
  #ended: { error?: MapramError } | undefined;
  #patience: QmpPatience = {};
  /** What ends the waits under way that end with the signal of `#patience`: one listener for all of them. */
  readonly #interrupts = new Set<() => void>();
  readonly #interrupt = () => {
    for (const interrupt of [...this.#interrupts]) interrupt();
  };
  #silent = false;

  private constructor(channel: QmpChannel, greeting: Greeting, name: string) {
    this.#channel = channel;
    this.version = greeting.version;
    this.capabilities = greeting.capabilities;
    this.name = name;
  }

  /**
   * Connects, reads the greeting and negotiates.
   *
   * @param target a socket path, `unix:PATH`, `tcp:HOST:PORT`, `libvirt:DOMAIN`, or a stream that is already connected
   * @throws MapramError `MONITOR`: nobody listens, not a QMP server, a human monitor instead; `BUSY`: no greeting in time
   */
  static async connect(target: string | Duplex, options: QmpConnectOptions = {}): Promise<QmpClient> {
    assertArguments('QmpClient.connect', { target: TargetSchema }, { target });
    assertOptions('QmpClient.connect', ConnectOptionsSchema, options);
    const name = options.name ?? (typeof target === 'string' ? formatAddress(target) : 'the monitor');
    const { timeoutMs = GREETING_TIMEOUT_MS } = options;
    const timeout =
      timeoutMs === Number.POSITIVE_INFINITY ? new AbortController().signal : AbortSignal.timeout(timeoutMs);
    const signal = options.signal ? AbortSignal.any([options.signal, timeout]) : timeout;
    let channel: QmpChannel | undefined;
    try {
      channel =
        typeof target === 'string'
          ? await openChannel(target, name, signal)
          : new QmpStreamChannel(target, undefined);
      const reader = new JsonReader();
      const { greeting, rest } = await readGreeting(channel.input, reader, name, signal);
      const client = new QmpClient(channel, greeting, name);
      client.#listen(reader, rest);
      await client.execute('qmp_capabilities', undefined, { signal });
      return client;
    } catch (error) {
      channel?.input.destroy();
      if (timeout.aborted && error === timeout.reason) throw noGreeting(name);
      throw error;
    }
  }

  /** True from the end of the connection on, whoever ended it. */
  get closed(): boolean {
    return this.#ended !== undefined;
  }

  /** Whether a command that was to put things right, after the signal of `setPatience`, had no answer. */
  get silent(): boolean {
    return this.#silent;
  }

  /**
   * From now on for all commands that are sent without a signal or time-out of their own.
   *
   * @returns what held before
   */
  setPatience(patience: QmpPatience): QmpPatience {
    const before = this.#patience;
    before.signal?.removeEventListener('abort', this.#interrupt);
    this.#patience = patience;
    this.#silent = false;
    patience.signal?.addEventListener('abort', this.#interrupt);
    return before;
  }

  /** The process at the other end of a Unix socket, or behind a domain of this host; undefined otherwise. */
  get peer(): PeerCredentials | undefined {
    return this.#channel.peer;
  }

  /** Where others could connect, too, from any directory and in any environment; undefined for a stream that was connected already. */
  get address(): string | undefined {
    return this.#channel.address;
  }

  /**
   * Sends a command and waits for its reply.
   *
   * @throws QmpError the server refused it
   * @throws MapramError `MONITOR` the connection ended first, no reply in time, or one that no QEMU gives
   * @throws the reason of `signal` when it fires
   */
  execute<C extends QmpCommandName>(
    command: C,
    args?: QmpCommands[C][0],
    options?: QmpExecuteOptions,
  ): Promise<QmpCommands[C][1]>;
  execute(command: string, args?: object, options?: QmpExecuteOptions): Promise<PlainJson>;
  async execute(command: string, args?: object, options: QmpExecuteOptions = {}): Promise<PlainJson> {
    assertArguments('execute', { command: text }, { command });
    assertOptions('execute', ExecuteOptionsSchema, options);
    if (this.#ended) throw this.#lost(command);
    const { signal, timeoutMs } = this.#limits(command, options);
    const { descriptors } = options;
    signal?.throwIfAborted();
    let id = 0;
    const reply = new Promise<PlainJson>((resolve, reject) => {
      const settle = (answer: ForwardedReply) => {
        if ('return' in answer) resolve(toPlainJson(answer.return));
        else reject(asQmpError(command, answer.error));
      };
      id = this.#send(command, args, { settle, reject }, descriptors);
    });
    const value = await this.#waitFor(command, id, reply, signal, timeoutMs);
    const problem = whyNotReply(command, value);
    if (problem === undefined) return value;
    throw new MapramError(
      'MONITOR',
      `asking the monitor ${this.name} with ${command}: what it answers is not what a QEMU does (${problem}); check that it is the monitor of a QEMU`,
      { path: this.name },
    );
  }

  #limits(command: string, { signal, timeoutMs }: QmpExecuteOptions): QmpExecuteOptions {
    const { signal: patience } = this.#patience;
    if (patience === undefined || timeoutMs !== undefined) return { ...defined({ signal, timeoutMs }) };
    if (signal !== undefined || !patience.aborted) return { signal: signal ?? patience };
    if (this.#silent) throw this.#noReply(command, AFTER_ABORT_MS);
    return { timeoutMs: AFTER_ABORT_MS };
  }

  /**
   * Sends a command and gives the reply back as it came, `return` or `error`, with every number as it was written.
   *
   * @throws MapramError `MONITOR` the connection ended first
   */
  async forward(
    command: string,
    args: JsonValue | undefined,
    descriptors?: readonly number[],
  ): Promise<ForwardedReply> {
    if (this.#ended) throw this.#lost(command);
    return new Promise((resolve, reject) =>
      this.#send(command, args, { settle: resolve, reject }, descriptors),
    );
  }

  /** Events from now on. The iterator ends with `close()` and fails when the connection is lost. */
  events(options: QmpEventsOptions = {}): AsyncIterableIterator<QmpEvent> {
    assertOptions('events', EventsOptionsSchema, options);
    const { names, signal } = options;
    const listener = {
      names: names && new Set(names),
      queue: new EventQueue<QmpEvent>(MAX_UNREAD_EVENTS, () => this.#listeners.delete(listener)),
    };
    if (this.#ended) {
      if (this.#ended.error) listener.queue.fail(this.#ended.error);
      else listener.queue.end();
    } else {
      this.#listeners.add(listener);
      signal?.addEventListener('abort', () => void listener.queue.return(), { once: true });
      if (signal?.aborted) void listener.queue.return();
    }
    return listener.queue;
  }

  /** Ends the connection. Commands in flight fail, event iterators end. */
  async close(): Promise<void> {
    this.#end(undefined);
    const { input } = this.#channel;
    if (input.closed) return;
    const closed = once(input, 'close').catch(() => {});
    input.destroy();
    await closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #listen(reader: JsonReader, rest: Buffer): void {
    const { input: stream } = this.#channel;
    stream.on('data', (chunk: Buffer) => this.#take(reader, chunk));
    stream.on('error', (error) => this.#end(this.#broken(errorReason(error))));
    stream.on('close', () => this.#end(this.#broken('the other side closed the connection')));
    stream.on('end', () => this.#end(this.#broken('the other side closed the connection')));
    if (rest.length > 0) this.#take(reader, rest);
    stream.resume();
  }

  #take(reader: JsonReader, chunk: Buffer): void {
    for (const { value, error } of reader.push(chunk)) {
      if (error !== undefined || !isJsonObject(value)) {
        this.#end(this.#broken(`it sent something that is not QMP${error ? ` (${error})` : ''}`));
        this.#channel.input.destroy();
        return;
      }
      if (typeof value.event === 'string') this.#dispatch(toPlainJson(value) as unknown as QmpEvent);
      else this.#settle(value);
    }
  }

  #dispatch(event: QmpEvent): void {
    for (const { names, queue } of this.#listeners) {
      if (!names || names.has(event.event)) queue.push(event);
    }
  }

  #settle(reply: JsonObject): void {
    const pending = typeof reply.id === 'number' ? this.#pending.get(reply.id) : undefined;
    // The reply to a command that nobody waits for any more.
    if (pending === undefined) return;
    this.#pending.delete(reply.id as number);
    pending.settle(isJsonObject(reply.error) ? { error: reply.error } : { return: reply.return ?? null });
  }

  /** Returns the id under which the reply will come. */
  #send(
    command: string,
    args: unknown,
    { settle, reject }: Omit<PendingCommand, 'command'>,
    descriptors?: readonly number[],
  ): number {
    const id = this.#nextId++;
    this.#pending.set(id, { command, settle, reject });
    this.#write({ execute: command, arguments: args, id }, descriptors).catch((error: unknown) => {
      this.#pending.delete(id);
      reject(error);
    });
    return id;
  }

  async #waitFor(
    command: string,
    id: number,
    reply: Promise<PlainJson>,
    signal: AbortSignal | undefined,
    timeoutMs: number | undefined,
  ): Promise<PlainJson> {
    const { onSilence } = this.#patience;
    if (signal === undefined && timeoutMs === undefined && onSilence === undefined) return reply;
    let stopWaiting = () => {};
    const interrupted = new Promise<never>((_, reject) => {
      const onAbort = () => reject(signal?.reason);
      const shared = signal !== undefined && signal === this.#patience.signal;
      if (shared) this.#interrupts.add(onAbort);
      else signal?.addEventListener('abort', onAbort, { once: true });
      const timer =
        timeoutMs === undefined
          ? undefined
          : setTimeout(() => {
              this.#silent ||= this.#patience.signal?.aborted === true;
              reject(this.#noReply(command, timeoutMs));
            }, timeoutMs);
      const silence = onSilence && setTimeout(onSilence, SILENCE_MS, command);
      stopWaiting = () => {
        clearTimeout(timer);
        clearTimeout(silence);
        if (shared) this.#interrupts.delete(onAbort);
        else signal?.removeEventListener('abort', onAbort);
      };
    });
    try {
      return await Promise.race([reply, interrupted]);
    } catch (error) {
      reply.catch(() => {});
      throw error;
    } finally {
      stopWaiting();
      this.#pending.delete(id);
    }
  }

  #write(request: QmpRequest, descriptors: readonly number[] = []): Promise<void> {
    if (descriptors.length > 0 && !this.canPassDescriptors) {
      return Promise.reject(new Error(`descriptors cannot be passed to ${this.name}`));
    }
    const write = this.#lastWrite.then(() => this.#channel.send(request, descriptors));
    this.#lastWrite = write.catch(() => {});
    return write;
  }

  /** Whether `descriptors` may be given to `execute`: over a Unix socket, and through a libvirt of this host. */
  get canPassDescriptors(): boolean {
    return this.#channel.canPassDescriptors;
  }

  #end(error: MapramError | undefined): void {
    if (this.#ended) return;
    this.#ended = error ? { error } : {};
    this.#patience.signal?.removeEventListener('abort', this.#interrupt);
    const pending = [...this.#pending.values()];
    this.#pending.clear();
    for (const { command, reject } of pending) reject(this.#lost(command));
    for (const { queue } of this.#listeners) {
      if (error) queue.fail(error);
      else queue.end();
    }
    this.#listeners.clear();
  }

  #broken(reason: string): MapramError {
    return new MapramError('MONITOR', `the connection to the monitor ${this.name} was lost: ${reason}`, {
      path: this.name,
    });
  }

  #lost(command: string): MapramError {
    const reason = this.#ended?.error;
    return new MapramError(
      'MONITOR',
      reason
        ? `${command} got no answer: ${reason.message}`
        : `${command} got no answer: the connection to the monitor ${this.name} is closed`,
      { path: this.name, cause: reason },
    );
  }

  #noReply(command: string, timeoutMs: number): MapramError {
    return new MapramError(
      'MONITOR',
      `${command} got no answer from the monitor ${this.name} within ${timeoutMs} ms`,
      { path: this.name },
    );
  }
}

function asQmpError(command: string, error: JsonObject): QmpError {
  return new QmpError(command, String(error.class) as QmpErrorClass, String(error.desc));
}

interface Greeting {
  readonly version: QmpVersion;
  readonly capabilities: readonly string[];
}

function formatAddress(target: string): string {
  const domain = parseLibvirtAddress(target);
  return domain === undefined
    ? formatSocketAddress(parseSocketAddress(target))
    : formatLibvirtAddress(domain);
}

async function openChannel(target: string, name: string, signal: AbortSignal): Promise<QmpChannel> {
  const domain = parseLibvirtAddress(target);
  if (domain !== undefined) return await DomainChannel.open(domain, signal);
  const address = parseSocketAddress(target);
  const lasting = 'path' in address ? path.resolve(address.path) : target;
  return new QmpStreamChannel(await connectSocket(target, name, signal), lasting);
}

/** The queue of those who wait for a monitor is full: QEMU's holds one. Node reports that at once. */
async function connectSocket(target: string, name: string, signal: AbortSignal): Promise<Socket> {
  for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)) {
    try {
      return await connectOnce(target, signal);
    } catch (error) {
      signal.throwIfAborted();
      if (!hasErrno(error, 'EAGAIN')) throw cannotConnect(name, error as NodeJS.ErrnoException);
    }
    await delay(pauseMs, undefined, { signal }).catch(() => {});
    signal.throwIfAborted();
  }
}

function connectOnce(target: string, signal: AbortSignal): Promise<Socket> {
  const address = parseSocketAddress(target);
  return new Promise((resolve, reject) => {
    const socket = createConnection({ ...address });
    const onAbort = () => socket.destroy(signal.reason as Error);
    const settle = () => signal.removeEventListener('abort', onAbort);
    socket.once('connect', () => {
      settle();
      socket.removeAllListeners('error');
      resolve(socket);
    });
    socket.once('error', (error) => {
      settle();
      reject(error);
    });
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
  });
}

function cannotConnect(name: string, error: NodeJS.ErrnoException): MapramError {
  const hints: Partial<Record<string, string>> = {
    ENOENT: 'there is no such socket; start QEMU with -qmp unix:PATH,server=on,wait=off',
    ECONNREFUSED: isOtherFile(name)
      ? 'it is not a socket; give that of the -qmp option of QEMU'
      : 'nobody listens there; is QEMU still running?',
    EACCES: 'permission denied; the socket belongs to another user',
    ENOTSOCK: 'this is not a socket',
  };
  const reason = hints[error.code ?? ''] ?? errorReason(error);
  return new MapramError('MONITOR', `cannot connect to the monitor ${name}: ${reason}`, {
    path: name,
    cause: error,
  });
}

/** Linux refuses connections to files of any kind in the same way. */
function isOtherFile(name: string): boolean {
  const address = parseSocketAddress(name);
  return 'path' in address && statSync(address.path, { throwIfNoEntry: false })?.isSocket() === false;
}

/** Most bytes kept of a greeting that turns out to be none, for telling what it is. */
const SAMPLE_BYTES = 256;

function readGreeting(
  stream: Readable,
  reader: JsonReader,
  name: string,
  signal: AbortSignal,
): Promise<{ greeting: Greeting; rest: Buffer }> {
  let sample = '';
  return new Promise((resolve, reject) => {
    const failAs = (message: string) => {
      stop();
      reject(new MapramError('MONITOR', message, { path: name }));
    };
    const fail = (reason: string) => failAs(`${name} is not a QMP server: ${reason}`);
    const onData = (chunk: Buffer) => {
      sample = (sample + chunk.toString('latin1')).slice(0, SAMPLE_BYTES);
      const line = chunk.indexOf(0x0a);
      const end = line === -1 ? chunk.length : line + 1;
      for (const { value, error } of reader.push(chunk.subarray(0, end))) {
        const greeting = error === undefined ? asGreeting(value) : undefined;
        if (greeting === undefined) return fail(describeForeign(sample));
        stop();
        stream.pause();
        return resolve({ greeting, rest: chunk.subarray(end) });
      }
    };
    const onEnd = () => fail('it closed the connection without a greeting');
    const onError = (error: Error) =>
      failAs(`the connection to ${name} was lost before its greeting: ${errorReason(error)}`);
    const onAbort = () => {
      stop();
      reject(signal.reason);
    };
    const stop = () => {
      stream.off('data', onData).off('end', onEnd).off('close', onEnd).off('error', onError);
      signal.removeEventListener('abort', onAbort);
    };
    stream.on('data', onData).on('end', onEnd).on('close', onEnd).on('error', onError);
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
    else if (stream.errored) onError(stream.errored);
    else if (stream.destroyed) fail('the connection has ended');
  });
}

function asGreeting(value: JsonValue): Greeting | undefined {
  const qmp = isJsonObject(value) ? value.QMP : undefined;
  const version = isJsonObject(qmp) ? qmp.version : undefined;
  if (!isJsonObject(qmp) || !isJsonObject(version) || !isJsonObject(version.qemu)) return undefined;
  const { qemu } = version;
  const number = (part: JsonValue | undefined) => (typeof part === 'number' ? part : 0);
  return {
    version: {
      qemu: { major: number(qemu.major), minor: number(qemu.minor), micro: number(qemu.micro) },
      package: typeof version.package === 'string' ? version.package : '',
    },
    capabilities: Array.isArray(qmp.capabilities)
      ? qmp.capabilities.filter((capability) => typeof capability === 'string')
      : [],
  };
}

function describeForeign(sample: string): string {
  return /^QEMU .* monitor/.test(sample) || sample.includes('(qemu)')
    ? "it is QEMU's human monitor; give the socket of -qmp, not the one of -monitor"
    : 'it greets otherwise';
}

/** The arguments are those of the two commands that give a running QEMU of 11.1 or later another monitor. */
function noGreeting(name: string): MapramError {
  if (parseLibvirtAddress(name) !== undefined) {
    return new MapramError(
      'BUSY',
      `${name} did not answer in time: libvirt, or the QEMU of the domain, is busy; try again`,
      { path: name },
    );
  }
  const chardev =
    '{"id": "mapram", "backend": {"type": "socket", "data": {"addr": {"type": "unix", "data": {"path": PATH}}, "wait": false}}}';
  const monitor = '{"qom-type": "monitor-qmp", "id": "mapram-qmp", "chardev": "mapram"}';
  return new MapramError(
    'BUSY',
    `${name} sent no QMP greeting in time: QEMU serves one client at a time, and perhaps another one is connected; if that is libvirt, use libvirt:DOMAIN, otherwise end it, or have it give a QEMU of 11.1 or later another monitor with chardev-add ${chardev} and object-add ${monitor}`,
    { path: name },
  );
}
