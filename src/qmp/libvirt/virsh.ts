/** Runs virsh, libvirt's own client. */
import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process';
import { errorReason, MapramError } from '../../errors.js';
import { MAX_OUTPUT_BYTES, VirshSession, whyEnded } from './virsh-session.js';

/** Descriptor number of the first that a virsh inherits. */
const FIRST_PASSED = 3;

/** Runs a program, and ends it with its standard input, which ends with this process too. */
const UNTIL_END = 'exec 3<&0; (read -r _ <&3; kill $$) >/dev/null 2>&1 & exec 3<&-; exec "$@" </dev/null';

export interface VirshOptions {
  readonly signal?: AbortSignal | undefined;
  /** For `--pass-fds`. They stay the caller's. */
  readonly descriptors?: readonly number[];
}

/** A libvirt, of the URI if there is one. Its virshs end when it is disposed. */
export class Virsh implements Disposable {
  readonly #running = new Set<ChildProcess>();
  readonly #connect: readonly string[];
  #session: VirshSession | undefined;

  constructor(uri: string | undefined) {
    this.#connect = uri === undefined ? [] : [`--connect=${uri}`];
  }

  /**
   * Runs one command.
   *
   * @returns what it printed, without blanks at its ends
   * @throws MapramError `MONITOR` with what virsh said; the reason of `signal`
   */
  async run(command: readonly string[], { signal, descriptors = [] }: VirshOptions = {}): Promise<string> {
    signal?.throwIfAborted();
    if (descriptors.length > 0) return await this.#runAlone(command, descriptors, signal);
    this.#session ??= new VirshSession(this.#connect);
    const output = this.#session.run(command);
    return await (signal === undefined ? output : untilAborted(output, signal));
  }

  /** Descriptors are inherited: those of later commands cannot get into a process that runs already. */
  async #runAlone(
    command: readonly string[],
    descriptors: readonly number[],
    signal: AbortSignal | undefined,
  ): Promise<string> {
    const passed = descriptors.map((_, index) => FIRST_PASSED + index).join(',');
    const [name = '', ...args] = command;
    const all = [...this.#connect, name, `--pass-fds=${passed}`, ...args];
    const child = this.#spawn('virsh', all, ['ignore', ...descriptors]);
    const end = () => child.kill();
    signal?.addEventListener('abort', end, { once: true });
    try {
      const { output, problem } = await this.#ended(child);
      signal?.throwIfAborted();
      if (problem !== undefined) throw new MapramError('MONITOR', `virsh ${name}: ${problem}`);
      return output;
    } finally {
      signal?.removeEventListener('abort', end);
    }
  }

  /**
   * Runs a command that prints a line now and then until it is ended.
   *
   * @param onEnd called with the reason when it ends by itself
   */
  follow(command: readonly string[], onLine: (line: string) => void, onEnd: (problem: string) => void): void {
    // virsh would write to a pipe what it has to say when it ends.
    const program = ['stdbuf', '-oL', 'virsh', '-q', ...this.#connect, ...command];
    const child = this.#spawn('/bin/sh', ['-c', UNTIL_END, 'sh', ...program], ['pipe']);
    // What waits for the end of the input is left over when the program ends first.
    child.once('exit', () => endGroup(child.pid));
    let rest = '';
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop() ?? '';
      if (rest.length > MAX_OUTPUT_BYTES) child.kill();
      for (const line of lines) onLine(line);
    });
    const [name = ''] = command;
    void this.#ended(child, false).then(({ problem }) => {
      onEnd(`virsh ${name}: ${problem ?? 'it has ended'}`);
    });
  }

  [Symbol.dispose](): void {
    this.#session?.[Symbol.dispose]();
    for (const child of this.#running) child.kill();
  }

  /** In a session of its own, so that ^C in a terminal ends no command halfway. */
  #spawn(
    program: string,
    args: string[],
    [input, ...inherited]: ('ignore' | 'pipe' | number)[],
  ): ChildProcess {
    const stdio: StdioOptions = [input, 'pipe', 'pipe', ...inherited];
    const child = spawn(program, args, { stdio, detached: true, env: { ...process.env, LC_ALL: 'C' } });
    child.stdin?.on('error', () => {});
    this.#running.add(child);
    return child;
  }

  #ended(child: ChildProcess, keepsOutput = true): Promise<{ output: string; problem: string | undefined }> {
    const printed = { stdout: '', stderr: '' };
    let tooMuch = false;
    const keep = (from: 'stdout' | 'stderr') => {
      child[from]?.setEncoding('utf8').on('data', (text: string) => {
        tooMuch ||= printed[from].length + text.length > MAX_OUTPUT_BYTES;
        if (tooMuch) child.kill();
        else printed[from] += text;
      });
    };
    if (keepsOutput) keep('stdout');
    keep('stderr');
    return new Promise((resolve) => {
      const settle = (problem: string | undefined) => {
        this.#running.delete(child);
        resolve({ output: printed.stdout.trim(), problem });
      };
      child.once('error', (error) => settle(errorReason(error)));
      child.once('close', (code) => {
        if (tooMuch) settle('its output has no end');
        else if (code === 0) settle(undefined);
        else settle(whyEnded(code, printed.stderr));
      });
    });
  }
}

function endGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // Nothing is left of it.
  }
}

/** What is waited for goes on. */
async function untilAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  let stop = () => {};
  const aborted = new Promise<never>((_, reject) => {
    const onAbort = () => reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    stop = () => signal.removeEventListener('abort', onAbort);
  });
  promise.catch(() => {});
  return await Promise.race([promise, aborted]).finally(stop);
}
