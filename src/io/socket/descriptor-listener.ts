import { chmodSync, chownSync, mkdtempSync, rmSync } from 'node:fs';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { errorReason, MapramError } from '../../errors.js';
import { releaseFiles } from '../file/open-file.js';
import { listenPrivately, removeStaleSocket } from './listening.js';
import { duplicateBlocking } from './unix-socket.js';

interface Waiter {
  resolve(fd: number): void;
  reject(error: unknown): void;
}

/**
 * A listening socket whose connections are handed out as raw, blocking descriptors, so that a worker can read
 * a stream without passing it through the main thread. Where nobody names an address, it is a Unix socket in a directory of its own that
 * only this user may enter.
 */
export class DescriptorListener implements AsyncDisposable {
  /** What the other side connects to: a path, or `HOST:PORT`. */
  readonly path: string;
  readonly #server: Server;
  readonly #directory: string | undefined;
  readonly #waiting: Waiter[] = [];
  readonly #accepted: number[] = [];
  /** Why a connection could not be taken: its stream is incomplete, so that no other one helps. */
  #failure: MapramError | undefined;
  #closed = false;

  private constructor(server: Server, directory: string | undefined, socketPath: string) {
    this.#server = server;
    this.#directory = directory;
    this.path = socketPath;
    server.on('connection', (socket) => {
      try {
        this.#hand(duplicateBlocking(socket));
      } catch (cause) {
        // Out of descriptors, mostly. There is nobody above to catch it.
        this.#failure = new MapramError('IO', `taking a connection on ${this.path}: ${errorReason(cause)}`, {
          path: this.path,
          cause,
        });
        this.#fail(this.#failure);
      } finally {
        // Only closes Node's descriptor: the connection lives on in the duplicate.
        socket.destroy();
      }
    });
    server.on('error', (cause) => this.#fail(cause));
  }

  static async open(): Promise<DescriptorListener> {
    const directory = mkdtempSync(path.join(tmpdir(), 'mapram-'));
    const socketPath = path.join(directory, 'socket');
    const server = createServer({ pauseOnConnect: true });
    try {
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject);
        server.listen(socketPath, () => {
          server.off('error', reject);
          resolve();
        });
      });
      chmodSync(socketPath, 0o600);
      return new DescriptorListener(server, directory, socketPath);
    } catch (cause) {
      server.close();
      rmSync(directory, { recursive: true, force: true });
      throw new MapramError('IO', `listening on ${socketPath}: ${errorReason(cause)}`, {
        path: socketPath,
        cause,
      });
    }
  }

  /**
   * Listens where somebody else said. A Unix socket is made for this user alone.
   *
   * @throws MapramError `EXISTS`, `BUSY`; the system error of bind(2) or listen(2)
   */
  static async listen(
    address: { path: string } | { host: string; port: number },
  ): Promise<DescriptorListener> {
    if ('path' in address) await removeStaleSocket(address.path);
    const server = createServer({ pauseOnConnect: true });
    await listenPrivately(server, address);
    const { port } = server.address() as AddressInfo;
    return new DescriptorListener(
      server,
      undefined,
      'path' in address ? address.path : `${address.host}:${port}`,
    );
  }

  /** Where a TCP socket listens. */
  get bound(): AddressInfo | undefined {
    const address = this.#server.address();
    return typeof address === 'string' || address === null ? undefined : address;
  }

  /** Gives the directory and the socket to another user, who alone may connect then. Needs the right to (root). */
  letIn(user: number): void {
    if (this.#directory !== undefined) chownSync(this.#directory, user, -1);
    chownSync(this.path, user, -1);
  }

  /**
   * The next connection. The caller closes the descriptor. Rejects when the signal fires, the listener is closed, or a connection
   * could not be taken.
   */
  accept(signal?: AbortSignal): Promise<number> {
    const fd = this.#accepted.shift();
    if (fd !== undefined) return Promise.resolve(fd);
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    return new Promise((resolve, reject) => {
      const cancel = () => {
        const index = this.#waiting.indexOf(waiter);
        if (index >= 0) this.#waiting.splice(index, 1);
        reject(this.#cancelled(signal?.reason));
      };
      const waiter: Waiter = {
        resolve(accepted) {
          signal?.removeEventListener('abort', cancel);
          resolve(accepted);
        },
        reject(error) {
          signal?.removeEventListener('abort', cancel);
          reject(error);
        },
      };
      if (this.#closed || signal?.aborted) {
        reject(this.#cancelled(signal?.reason));
        return;
      }
      signal?.addEventListener('abort', cancel);
      this.#waiting.push(waiter);
    });
  }

  /** Stops listening, drops connections that nobody took and removes the socket. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
    });
    this.#fail(this.#cancelled());
    releaseFiles(this.#accepted.splice(0));
    if (this.#directory !== undefined) rmSync(this.#directory, { recursive: true, force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #hand(fd: number): void {
    const waiter = this.#waiting.shift();
    if (waiter === undefined) this.#accepted.push(fd);
    else waiter.resolve(fd);
  }

  #fail(error: unknown): void {
    for (const waiter of this.#waiting.splice(0)) waiter.reject(error);
  }

  #cancelled(cause?: unknown): MapramError {
    return new MapramError('CANCELLED', `waiting for a connection on ${this.path}: cancelled`, {
      path: this.path,
      cause,
    });
  }
}
