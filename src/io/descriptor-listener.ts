import { chmodSync, chownSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { MapramError } from '../errors.js';
import { releaseFiles } from './open-file.js';
import { duplicateBlocking } from './unix-socket.js';

interface Waiter {
  resolve(fd: number): void;
  reject(error: unknown): void;
}

/**
 * A listening Unix socket whose connections are handed out as raw, blocking descriptors, so that a worker can read
 * a stream without passing it through the main thread. The socket lies in a directory of its own that only this user may enter.
 */
export class DescriptorListener implements AsyncDisposable {
  /** What the other side connects to. */
  readonly path: string;
  readonly #server: Server;
  readonly #directory: string;
  readonly #waiting: Waiter[] = [];
  readonly #accepted: number[] = [];
  #closed = false;

  private constructor(server: Server, directory: string, socketPath: string) {
    this.#server = server;
    this.#directory = directory;
    this.path = socketPath;
    server.on('connection', (socket) => {
      const fd = duplicateBlocking(socket);
      // Only closes Node's descriptor: the connection lives on in the duplicate.
      socket.destroy();
      const waiter = this.#waiting.shift();
      if (waiter === undefined) this.#accepted.push(fd);
      else waiter.resolve(fd);
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
      throw new MapramError('IO', `listening on ${socketPath}: ${(cause as Error).message}`, {
        path: socketPath,
        cause,
      });
    }
  }

  /** Gives the directory and the socket to another user, who alone may connect then. Needs the right to (root). */
  letIn(user: number): void {
    chownSync(this.#directory, user, -1);
    chownSync(this.path, user, -1);
  }

  /** The next connection. The caller closes the descriptor. Rejects when the signal fires or the listener is closed. */
  accept(signal?: AbortSignal): Promise<number> {
    const fd = this.#accepted.shift();
    if (fd !== undefined) return Promise.resolve(fd);
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
    rmSync(this.#directory, { recursive: true, force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
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
