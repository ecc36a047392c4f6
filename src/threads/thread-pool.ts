/**
 * Threads that carry out requests. A thread that its user gives back is kept for the next one: starting one costs tens of
 * milliseconds of processor time, mostly for loading code, and leaves three mappings of the native library behind when it
 * ends, of which a process may have 65,530 (`vm.max_map_count`).
 *
 * ```
 * openThread ──► in use ──release──► closing ──done──► idle ──openThread──► in use
 *                   │                   │
 *                   └── ended, or failed in a way that its code does not expect: never used again
 * ```
 *
 * An idle thread does not keep the process alive.
 */
import { Worker } from 'node:worker_threads';
import { type Deferred, deferred } from '../deferred.js';
import { errorReason } from '../errors.js';
import { plannedFaults } from '../io/faults.js';
import { threadArguments, workerScript } from '../io/worker-script.js';
import { type FromThread, ThreadFailedError, type ThreadFailure, type ToThread } from './thread-protocol.js';

/** Idle threads that a process keeps, of about 4 MiB each; 16 saves at once by four channels have as many. */
const MAXIMUM_IDLE = 64;

/**
 * Address space that V8 reserves for the compiled code of a thread, which needs little of it. By itself it reserves 128 MiB, and
 * ends the process where a limit on the address space (`ulimit -v`) leaves no room for that.
 */
const CODE_RANGE_MB = 16;

/** Last used last: that one is taken first, so that others need no memory of their own. */
const idle: PooledThread[] = [];

/** Threads that become idle or end. */
const settling = new Set<Promise<void>>();

function settle(change: Promise<void>): Promise<void> {
  settling.add(change);
  return change.finally(() => settling.delete(change));
}

/** A thread of one user, until it is released. */
export interface WorkerThread<Request, Result = void> {
  /**
   * Resolves with what the service returns; requests are carried out in order.
   *
   * @throws ThreadFailedError also when the thread ends
   */
  request(request: Request): Promise<Result>;
  /**
   * Lets others have the thread, after what was requested; nothing may be requested any more. Once it resolves the thread uses
   * nothing of what it was given. Never throws.
   */
  release(): Promise<void>;
}

/**
 * A thread for `script`, which exports an `OpenService`. Does not wait until it runs: what keeps it from that is thrown by the
 * first request.
 */
export function openThread<Request, Result = void>(script: URL): WorkerThread<Request, Result> {
  const thread = takeIdle(script.href) ?? new PooledThread();
  const opened = thread.open(script.href);
  let released: Promise<void> | undefined;
  return {
    async request(request) {
      if (released) throw new ThreadFailedError({ message: 'its thread was released' });
      const result = thread.call(request);
      await opened;
      return (await result) as Result;
    },
    release() {
      released ??= settle(thread.release());
      return released;
    },
  };
}

/**
 * Has `count` idle threads load `script`, and carry `request` out, for users who come soon. Does not wait, and neither need they.
 * What goes wrong here goes wrong again when they come.
 */
export function prepareThreads<Request>(script: URL, count: number, request?: Request): void {
  retireUnsuited();
  while (idle.length < count) idle.push(new PooledThread());
  for (const thread of idle.slice(-count)) thread.prepare(script.href, request);
}

/** Ends the threads that nobody uses. Resolves when they are gone; the next users start new ones. */
export async function endIdleThreads(): Promise<void> {
  while (settling.size + idle.length > 0) {
    await Promise.all(settling);
    for (const thread of idle.splice(0)) thread.retire();
  }
}

/** One that has loaded the script already, if there is one. */
function takeIdle(script: string): PooledThread | undefined {
  retireUnsuited();
  const loaded = idle.findLastIndex(({ scripts }) => scripts.has(script));
  return idle.splice(loaded, 1)[0];
}

function retireUnsuited(): void {
  for (const unsuited of idle.filter((thread) => !thread.suits())) unsuited.retire();
}

class PooledThread {
  /** What it has loaded. */
  readonly scripts = new Set<string>();
  readonly #worker = new Worker(workerScript('service-thread', import.meta.url), {
    name: 'mapram',
    ...threadArguments(),
    resourceLimits: { codeRangeSizeMb: CODE_RANGE_MB },
  });
  /** A thread knows the faults that were planned when it was started. */
  readonly #faults = plannedFaults();
  readonly #waiting: Deferred<unknown>[] = [];
  readonly #exited = deferred<void>();
  #ended: ThreadFailure | undefined;
  #unfit = false;

  constructor() {
    this.#worker.on('message', (reply: FromThread) => this.#take(reply));
    this.#worker.on('error', (error) => this.#end(`its thread died: ${errorReason(error)}`));
    this.#worker.once('exit', () => {
      this.#end('its thread ended unexpectedly');
      this.#exited.resolve();
    });
  }

  suits(): boolean {
    return this.#faults === plannedFaults();
  }

  open(script: string): Promise<unknown> {
    this.#worker.ref();
    this.scripts.add(script);
    return this.#post({ kind: 'open', script });
  }

  prepare(script: string, request: unknown): void {
    if (this.scripts.has(script)) return;
    void this.open(script);
    if (request !== undefined) void this.call(request);
    void this.#post({ kind: 'close' });
  }

  call(request: unknown): Promise<unknown> {
    return this.#post({ kind: 'call', request });
  }

  async release(): Promise<void> {
    try {
      await this.#post({ kind: 'close' });
      this.#rest();
    } catch {
      this.retire();
    }
  }

  #post(message: ToThread): Promise<unknown> {
    const reply = deferred<unknown>();
    if (this.#ended) reply.reject(new ThreadFailedError(this.#ended));
    else {
      this.#waiting.push(reply);
      this.#worker.postMessage(message);
    }
    return reply.promise;
  }

  #take(reply: FromThread): void {
    const waiting = this.#waiting.shift();
    if (reply.kind === 'done') waiting?.resolve(reply.result);
    else {
      this.#unfit ||= reply.failure.unexpected === true;
      waiting?.reject(new ThreadFailedError(reply.failure));
    }
    if (!idle.includes(this)) return;
    if (this.#unfit) this.retire();
    else if (this.#waiting.length === 0) this.#worker.unref();
  }

  #rest(): void {
    if (this.#unfit || idle.length >= MAXIMUM_IDLE) {
      this.retire();
      return;
    }
    this.#worker.unref();
    idle.push(this);
  }

  /** Ends the thread by asking: terminating one that is loading the native library would abort the process. */
  retire(): void {
    this.#leave();
    if (this.#ended) return;
    this.#worker.ref();
    this.#worker.postMessage({ kind: 'end' } satisfies ToThread);
    void settle(this.#exited.promise);
  }

  #leave(): void {
    const place = idle.indexOf(this);
    if (place >= 0) idle.splice(place, 1);
  }

  #end(message: string): void {
    this.#ended ??= { message };
    this.#leave();
    for (const { reject } of this.#waiting.splice(0)) reject(new ThreadFailedError(this.#ended));
  }
}
