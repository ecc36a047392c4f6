/**
 * The connections of a migration that goes out, or comes in, as a stream: sockets, a command, or a file. What QEMU's
 * `unix:`, `tcp:`, `fd:`, `exec:` and (without mapped-ram) `file:` stand for.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { constants, fstatSync } from 'node:fs';
import os from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import { errorReason, MapramError } from '../../errors.js';
import { closeFile, releaseFiles, reopenFile } from '../../io/file/open-file.js';
import { openPipe, setNonBlocking } from '../../io/socket/pipe.js';
import { connectBlocking } from '../../io/socket/socket-connection.js';
import { shutdownSocket } from '../../io/socket/unix-socket.js';
import { systemErrorText } from '../../io/system-error-text.js';

export interface StreamConnections {
  /** What QEMU calls the far end in its messages. */
  readonly kind: 'socket' | 'command' | 'file';
  /** Of a way out: the main channel first. They are owned by these connections. */
  readonly fds: readonly number[];
  /** Of a way out: closes, and returns when the far end has taken everything, as far as that can be told. */
  finish(): Promise<void>;
  /** Ends all reads and writes that are under way. */
  abort(): void;
  /** Gives everything back. Never throws. */
  close(): Promise<void>;
}

/** Where a stream goes or comes from, found good but not connected yet. */
export interface StreamEndpoint {
  /** For messages. */
  readonly name: string;
  connect(signal: AbortSignal): Promise<StreamConnections>;
  /** Gives up what `connect` was never called for. Never throws. */
  dispose(): Promise<void>;
}

/** How long a command that is to end may take until it is killed. */
const TERM_MS = 2000;

/** Connected sockets. */
export class SocketConnections implements StreamConnections {
  readonly kind = 'socket';
  #open: number[];

  constructor(readonly fds: readonly number[]) {
    this.#open = [...fds];
  }

  async finish(): Promise<void> {
    releaseFiles(this.#open.splice(0));
  }

  abort(): void {
    for (const fd of this.#open) shutdownSocket(fd);
  }

  async close(): Promise<void> {
    await this.finish();
  }
}

/** A descriptor that is a file, or a pipe that somebody else holds the other end of. */
export class FileConnection implements StreamConnections {
  readonly kind = 'file';
  readonly fds: readonly number[];
  #open: number[];

  constructor(fd: number) {
    this.fds = [fd];
    this.#open = [fd];
  }

  async finish(): Promise<void> {
    for (const fd of this.#open.splice(0)) closeFile(fd);
  }

  abort(): void {}

  async close(): Promise<void> {
    releaseFiles(this.#open.splice(0));
  }
}

/** The standard input or output of a command that runs in a process group of its own. */
export class CommandConnection implements StreamConnections {
  readonly kind = 'command';
  readonly fds: readonly number[];
  readonly #child: ChildProcess;
  readonly #exited: Promise<{ code: number | null; signal: string | null }>;
  #open: number[];
  #ended = false;

  private constructor(child: ChildProcess, fd: number) {
    this.#child = child;
    this.fds = [fd];
    this.#open = [fd];
    this.#exited = new Promise((resolve) => {
      child.once('exit', (code, signal) => {
        this.#ended = true;
        resolve({ code, signal });
      });
    });
  }

  /**
   * @param direction `out` for a command that reads the stream, `in` for one that writes it
   * @throws MapramError `USAGE` when there is no such program
   */
  static async start(args: readonly string[], direction: 'in' | 'out'): Promise<CommandConnection> {
    const [program = '', ...rest] = args;
    const { readEnd, writeEnd } = openPipe();
    const [ours, theirs] = direction === 'out' ? [writeEnd, readEnd] : [readEnd, writeEnd];
    try {
      // The other end keeps waiting as pipes do: only this end's open file is changed.
      setNonBlocking(ours);
      const child = spawn(program, rest, {
        stdio: direction === 'out' ? [theirs, 'ignore', 'inherit'] : ['ignore', theirs, 'inherit'],
        detached: true,
      });
      const connection = new CommandConnection(child, ours);
      await once(child, 'spawn');
      child.on('error', () => {});
      return connection;
    } catch (cause) {
      releaseFiles([ours]);
      const text = systemErrorText(cause) ?? errorReason(cause);
      throw new MapramError('USAGE', `Failed to execute child process “${program}” (${text})`, { cause });
    } finally {
      releaseFiles([theirs]);
    }
  }

  /** QEMU does not ask how the command ended; here one that failed has not taken the stream. */
  async finish(): Promise<void> {
    for (const fd of this.#open.splice(0)) closeFile(fd);
    const { code, signal } = await this.#exited;
    if (code === 0) return;
    const how = signal === null ? `with exit status ${code}` : `by signal ${signal}`;
    throw new MapramError('MIGRATION', `Unable to write to command: it ended ${how}`);
  }

  abort(): void {
    this.#kill('SIGTERM');
  }

  async close(): Promise<void> {
    releaseFiles(this.#open.splice(0));
    if (this.#ended) return;
    // One whose input or output has ended ends by itself, as a rule.
    await Promise.race([this.#exited, delay(TERM_MS)]);
    this.#kill('SIGTERM');
    await Promise.race([this.#exited, delay(TERM_MS)]);
    this.#kill('SIGKILL');
    await this.#exited;
  }

  #kill(signal: 'SIGTERM' | 'SIGKILL'): void {
    const { pid } = this.#child;
    if (this.#ended || pid === undefined) return;
    try {
      process.kill(-pid, os.constants.signals[signal]);
    } catch {
      // It has ended meanwhile.
    }
  }
}

/** A descriptor that a client passed in: a socket, a pipe or a file. It is owned from now on. */
export function passedConnection(fd: number, direction: 'in' | 'out'): StreamConnections {
  const stats = fstatSync(fd);
  if (stats.isSocket()) return new SocketConnections([fd]);
  if (!stats.isFIFO()) return new FileConnection(fd);
  // An open file of its own is non-blocking without anybody else noticing.
  try {
    const access = direction === 'in' ? constants.O_RDONLY : constants.O_WRONLY;
    return new FileConnection(reopenFile(fd, access | constants.O_NONBLOCK));
  } finally {
    releaseFiles([fd]);
  }
}

/**
 * Connects `count` times to one address, the main channel first.
 *
 * @throws MapramError `MIGRATION` in QEMU's words
 */
export async function connectAll(
  address: string | { host: string; port: number },
  count: number,
  signal: AbortSignal,
): Promise<SocketConnections> {
  const fds: number[] = [];
  try {
    while (fds.length < count) fds.push(await connectBlocking(address, signal));
    return new SocketConnections(fds);
  } catch (cause) {
    releaseFiles(fds);
    signal.throwIfAborted();
    const target = typeof address === 'string' ? address : `${address.host}:${address.port}`;
    const { code } = cause as NodeJS.ErrnoException;
    const message =
      code === 'ENOTFOUND' || code === 'EAI_AGAIN'
        ? `address resolution failed for ${target}: Name or service not known`
        : `Failed to connect to '${target}': ${systemErrorText(cause) ?? errorReason(cause)}`;
    throw new MapramError('MIGRATION', message, { cause });
  }
}
