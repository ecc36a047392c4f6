/** A QEMU that mapram has started, with mapram's own monitor connected. */

import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import type { Duplex } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { defined } from '../defined.js';
import { errorReason } from '../errors.js';
import { closeFile, openFile } from '../io/file/open-file.js';
import { hasErrno } from '../io/system-error.js';
import type { QemuRelease } from '../options/qemu-profile.js';
import { visible } from '../visible.js';
import { withMonitorsFor } from './chardev-monitors.js';
import { type CommandLineOption, formatCommandLine } from './command-line.js';
import { enterCgroup } from './confinement.js';
import { type LimitedLog, LOG_FLAGS, openLimitedLog } from './limited-log.js';
import { OWN_MONITOR_FD, ownMonitor } from './own-monitor.js';
import { RepeatedLines } from './repeated-lines.js';

export interface QemuProcessOptions {
  program: string;
  options: readonly CommandLineOption[];
  workingDirectory?: string;
  /** Which release it is, for options that releases write differently; where it is not known, an early one. */
  release?: QemuRelease | undefined;
  /**
   * `inherit`: QEMU has this process' terminal and process group; `detached`: neither, so that ^C does not reach it.
   */
  terminal: 'inherit' | 'detached';
  /** A file for QEMU's standard error output; without it, the last of it is kept in memory. */
  errorLog?: string;
  /** Bytes that are kept of it at most. */
  errorLogLimit?: number;
  /** Whoever ends it should this process be killed. */
  guarded?: GuardedProcess;
  /** Directory of a cgroup that it is put into at once. */
  cgroup?: string;
}

/** What a process gets whose end is seen to by others. */
export interface GuardedProcess {
  /** Added to its environment. */
  environment: Record<string, string>;
  /** Called once: it has ended, or was left to itself. */
  over(how: 'ended' | 'left'): void;
}

export interface ExitStatus {
  code: number | null;
  signal: NodeJS.Signals | null;
}

const EARLY_RELEASE: QemuRelease = [7, 2];
/** How much of what QEMU said last is kept for messages. */
const KEPT_STDERR = 16 * 1024;
/** How long what is left of a log may take to be written, when QEMU has ended. */
const LOG_MS = 1_000;
/** Between asking QEMU to end and killing it. */
const GRACE_MS = 5_000;

export class QemuProcess implements AsyncDisposable {
  /** Settles when the process has ended. */
  readonly exited: Promise<ExitStatus>;
  readonly #child: ChildProcess;
  readonly #errorLog: string | undefined;
  readonly #logComplete: Promise<void>;
  readonly #repeated = new RepeatedLines();
  readonly #guarded: GuardedProcess | undefined;
  #forwarding = false;
  #stderr = '';
  #spawnError: Error | undefined;

  private constructor(
    child: ChildProcess,
    { errorLog, guarded }: Pick<QemuProcessOptions, 'errorLog' | 'guarded'>,
    logComplete = Promise.resolve(),
  ) {
    this.#child = child;
    this.#errorLog = errorLog;
    this.#guarded = guarded;
    this.#logComplete = logComplete;
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr = (this.#stderr + text).slice(-KEPT_STDERR);
      if (this.#forwarding) this.#forward(text);
    });
    child.stderr?.on('error', () => {});
    this.exited = new Promise((resolve) => {
      child.once('error', (error) => {
        this.#spawnError = error;
        resolve({ code: null, signal: null });
      });
      child.once('close', (code, signal) => resolve({ code, signal }));
    });
    void this.exited.then(() => guarded?.over('ended'));
  }

  /** Starts QEMU. It may fail at once: that shows when its monitor is connected to. */
  static start(launch: QemuProcessOptions): QemuProcess {
    const { program, options, workingDirectory, terminal, errorLog, errorLogLimit, guarded, cgroup } = launch;
    const { release = EARLY_RELEASE } = launch;
    const args = formatCommandLine(withMonitorsFor(release, [...options, ...ownMonitor()]));
    const inherited = terminal === 'inherit' ? 'inherit' : 'ignore';
    const log = errorLog === undefined ? undefined : openLog(errorLog, errorLogLimit);
    try {
      const stdio: ('inherit' | 'ignore' | 'pipe' | number)[] = [inherited, inherited, log?.fd ?? 'pipe'];
      stdio[OWN_MONITOR_FD] = 'pipe';
      const child = spawn(program, args, {
        stdio,
        detached: terminal === 'detached',
        ...defined({ env: guarded === undefined ? undefined : { ...process.env, ...guarded.environment } }),
        ...defined({ cwd: workingDirectory }),
      });
      const started = new QemuProcess(child, launch, log?.complete);
      if (cgroup !== undefined && child.pid !== undefined) confine(child, cgroup, child.pid);
      return started;
    } finally {
      if (log !== undefined) closeFile(log.fd);
    }
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  get ended(): boolean {
    return this.#spawnError !== undefined || this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  /** The connection to mapram's own monitor: QMP, not negotiated yet. */
  get monitor(): Duplex {
    return this.#child.stdio[OWN_MONITOR_FD] as Duplex;
  }

  /** What QEMU wrote to its standard error output last, as one line. */
  get said(): string {
    const text = this.#errorLog === undefined ? this.#stderr : readTail(this.#errorLog);
    return text.trim().replaceAll(/\s*\n\s*/g, '; ');
  }

  /**
   * From now on what QEMU writes to its standard error output is passed on, with all that would steer a terminal spelled out, and
   * what says the same again and again left out.
   */
  forwardErrors(): void {
    if (this.#stderr !== '') this.#forward(this.#stderr);
    this.#forwarding = true;
  }

  #forward(text: string): void {
    const shown = this.#repeated.take(text);
    if (shown !== '') process.stderr.write(visible(shown));
  }

  /** Why the process ended, for a message. Waits a moment for it, since its monitor closes first. */
  async describeEnd(program: string): Promise<string> {
    const status = await Promise.race([this.exited, delay(GRACE_MS)]);
    if (this.#spawnError) return `${program} cannot be started: ${whyNotStarted(this.#spawnError)}`;
    await Promise.race([this.#logComplete, delay(LOG_MS)]);
    if (this.said !== '') return this.said;
    if (status === undefined) return `${program} closed its monitor`;
    return status.signal === null
      ? `${program} ended with code ${status.code}`
      : `${program} was ended by ${status.signal}`;
  }

  /** Lets this process end while QEMU goes on. */
  detach(): void {
    this.#guarded?.over('left');
    this.#child.unref();
    for (const stream of [this.#child.stderr, this.monitor]) stream?.destroy();
  }

  /** Ends QEMU: asks first, then insists. Resolves when it is gone. */
  async end(): Promise<ExitStatus> {
    if (!this.ended) {
      this.#child.kill('SIGTERM');
      const graceful = await Promise.race([this.exited, delay(GRACE_MS, undefined, { ref: false })]);
      if (graceful === undefined) this.#child.kill('SIGKILL');
    }
    return this.exited;
  }

  /** Ends QEMU at once: for one that never ran, or whose start failed. */
  async kill(): Promise<ExitStatus> {
    if (!this.ended) this.#child.kill('SIGKILL');
    return this.exited;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }
}

function whyNotStarted(error: Error): string {
  return hasErrno(error, 'ENOENT')
    ? 'there is no such program, or its working directory is gone'
    : errorReason(error);
}

/** One that cannot be confined does not run. */
function confine(child: ChildProcess, cgroup: string, pid: number): void {
  try {
    enterCgroup(cgroup, pid);
  } catch (error) {
    child.kill('SIGKILL');
    throw error;
  }
}

function openLog(file: string, limit: number | undefined): LimitedLog {
  return limit === undefined
    ? { fd: openFile(file, LOG_FLAGS), complete: Promise.resolve() }
    : openLimitedLog(file, limit);
}

function readTail(file: string): string {
  try {
    return readFileSync(file, 'utf8').slice(-KEPT_STDERR);
  } catch {
    return '';
  }
}
