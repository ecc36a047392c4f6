import { closeSync, writeSync } from 'node:fs';
import type { Socket } from 'node:net';
import { Worker } from 'node:worker_threads';
import { duplicateDescriptor } from '../io/descriptor.js';
import { descriptorOf, socketPair } from '../io/unix-socket.js';
import { workerScript } from '../io/worker-script.js';
import type { ClientInput } from './client-channel.js';
import type { ReaderReply, ReaderRequest } from './descriptor-reader-worker.js';

/**
 * Reads Unix sockets together with the descriptors passed over them, in a thread of its own.
 *
 * One input at a time is fetched for each socket, when its reader asks for it. The thread has descriptors of its own: a
 * socket that breaks is closed by Node at once, and its number given to the next one.
 */
export class DescriptorReader {
  readonly #worker: Worker;
  /** Our end, and the worker's: a thread must not close what it did not open. */
  readonly #wakeFds: readonly [number, number];
  readonly #readers = new Map<number, (input: ClientInput | undefined) => void>();
  /** What the thread reads instead of each socket. */
  readonly #duplicates = new Map<Socket, number>();
  readonly #releases = new WeakMap<Socket, Promise<void>>();
  readonly #released = new Map<number, () => void>();
  readonly #ended: Promise<void>;
  #stopped = false;

  constructor() {
    this.#wakeFds = socketPair();
    this.#worker = new Worker(workerScript('descriptor-reader-worker', import.meta.url), {
      workerData: { wakeFd: this.#wakeFds[1] },
    });
    this.#worker.on('message', (reply: ReaderReply) => this.#take(reply));
    this.#worker.on('error', () => {});
    this.#ended = new Promise((resolve) => {
      this.#worker.once('exit', () => {
        this.#onExit();
        resolve();
      });
    });
  }

  /** The input of `socket` up to its end. */
  async *read(socket: Socket): AsyncGenerator<ClientInput> {
    // A client may be gone before anybody came to read.
    if (socket.destroyed) return;
    const fd = duplicateDescriptor(descriptorOf(socket));
    this.#duplicates.set(socket, fd);
    socket.once('close', () => void this.release(socket));
    for (;;) {
      if (this.#stopped || this.#releases.has(socket)) return;
      const input = await new Promise<ClientInput | undefined>((resolve) => {
        this.#readers.set(fd, resolve);
        this.#send({ kind: 'read', fd });
      });
      if (input === undefined) return;
      yield input;
    }
  }

  /** Ends `read` of this socket. Once it resolves nothing reads from the socket any more. */
  release(socket: Socket): Promise<void> {
    const pending = this.#releases.get(socket);
    if (pending !== undefined) return pending;
    const fd = this.#duplicates.get(socket);
    if (fd === undefined || this.#stopped) return Promise.resolve();
    const release = new Promise<void>((resolve) => this.#released.set(fd, resolve)).then(() => {
      this.#duplicates.delete(socket);
      closeSync(fd);
    });
    this.#releases.set(socket, release);
    this.#readers.get(fd)?.(undefined);
    this.#readers.delete(fd);
    this.#send({ kind: 'release', fd });
    return release;
  }

  /** Ends the thread. */
  async close(): Promise<void> {
    if (!this.#stopped) {
      this.#send({ kind: 'stop' });
      this.#stopped = true;
    }
    await this.#ended;
  }

  #send(request: ReaderRequest): void {
    this.#worker.postMessage(request);
    writeSync(this.#wakeFds[0], '!');
  }

  #take(reply: ReaderReply): void {
    if (reply.kind === 'released') {
      this.#released.get(reply.fd)?.();
      this.#released.delete(reply.fd);
      return;
    }
    const { fd, bytes, descriptors } = reply;
    const reader = this.#readers.get(fd);
    this.#readers.delete(fd);
    // Nobody reads any more: what came is dropped, descriptors included.
    if (reader === undefined) for (const descriptor of descriptors) closeSync(descriptor);
    else reader(bytes.length === 0 ? undefined : { bytes: Buffer.from(bytes), descriptors });
  }

  /** The thread is gone, as it was told to or not: nobody waits for it any longer. */
  #onExit(): void {
    this.#stopped = true;
    for (const reader of this.#readers.values()) reader(undefined);
    for (const released of this.#released.values()) released();
    for (const [socket, fd] of this.#duplicates) if (!this.#releases.has(socket)) closeSync(fd);
    this.#readers.clear();
    this.#released.clear();
    this.#duplicates.clear();
    for (const fd of this.#wakeFds) closeSync(fd);
  }
}
