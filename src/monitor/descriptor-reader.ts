import { closeSync, writeSync } from 'node:fs';
import type { Socket } from 'node:net';
import { duplicateDescriptor } from '../io/descriptor.js';
import { descriptorOf, socketPair } from '../io/socket/unix-socket.js';
import { workerScript } from '../io/worker-script.js';
import { openThread, type WorkerThread } from '../threads/thread-pool.js';
import type { ClientInput } from './client-channel.js';
import type { ReaderRequest, SocketRead } from './descriptor-reader-worker.js';

/**
 * Reads Unix sockets together with the descriptors passed over them, in a thread of its own.
 *
 * The thread waits for input of all sockets whose readers ask for it, and is asked anew when it has some, or is woken because
 * something has changed. It has descriptors of its own: a socket that breaks is closed by Node at once, and its number given to
 * the next one.
 */
export class DescriptorReader {
  readonly #thread: WorkerThread<ReaderRequest, SocketRead[]>;
  /** Our end, and the worker's: a thread must not close what it did not open. */
  readonly #wakeFds: readonly [number, number];
  readonly #readers = new Map<number, (input: ClientInput | undefined) => void>();
  /** What the thread reads instead of each socket. */
  readonly #duplicates = new Map<Socket, number>();
  readonly #releases = new WeakMap<Socket, Promise<void>>();
  readonly #released = new Map<number, () => void>();
  readonly #ended: Promise<void>;
  #stopped = false;
  /** A process that exits waits for its threads, and this one sits in a system call that only its descriptors end. */
  readonly #wakeUp = () => void writeSync(this.#wakeFds[0], '!');

  constructor() {
    this.#wakeFds = socketPair();
    this.#thread = openThread(workerScript('descriptor-reader-worker', import.meta.url));
    this.#ended = this.#run();
    process.on('exit', this.#wakeUp);
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
        this.#wake();
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
    this.#wake();
    return release;
  }

  /** Gives the thread up. */
  async close(): Promise<void> {
    if (!this.#stopped) {
      this.#stopped = true;
      this.#wake();
    }
    await this.#ended;
  }

  async #run(): Promise<void> {
    try {
      while (!this.#stopped) {
        const sockets = [...this.#readers.keys()];
        for (const read of await this.#thread.request({ wakeFd: this.#wakeFds[1], sockets }))
          this.#take(read);
        // What was released meanwhile is read no more: the next request does not name it.
        for (const released of this.#released.values()) released();
        this.#released.clear();
      }
    } catch {
      // The thread is gone: nobody waits for it any longer.
    }
    await this.#thread.release();
    this.#onEnd();
  }

  #wake(): void {
    writeSync(this.#wakeFds[0], '!');
  }

  #take({ fd, bytes, descriptors }: SocketRead): void {
    const reader = this.#readers.get(fd);
    this.#readers.delete(fd);
    // Nobody reads any more: what came is dropped, descriptors included.
    if (reader === undefined) for (const descriptor of descriptors) closeSync(descriptor);
    else reader(bytes.length === 0 ? undefined : { bytes: Buffer.from(bytes), descriptors });
  }

  #onEnd(): void {
    this.#stopped = true;
    process.off('exit', this.#wakeUp);
    for (const reader of this.#readers.values()) reader(undefined);
    for (const released of this.#released.values()) released();
    for (const [socket, fd] of this.#duplicates) if (!this.#releases.has(socket)) closeSync(fd);
    this.#readers.clear();
    this.#released.clear();
    this.#duplicates.clear();
    for (const fd of this.#wakeFds) closeSync(fd);
  }
}
