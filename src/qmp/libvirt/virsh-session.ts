/**
 * A virsh that runs one command after the other: it starts and connects once.
 *
 * ```
 * ▶ echo 'BEGIN' ID-7; 'list' '--uuid'; echo 'END' ID-7
 * ◀ virsh # echo 'BEGIN' ID-7; …            its own echo of the line, maybe in pieces
 *   BEGIN ID-7
 *   12345678-9abc-4ef0-8123-456789abcdef    what the command prints, its errors among it
 *
 *   END ID-7
 * ```
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { errorReason, MapramError } from '../../errors.js';

/** libvirt itself takes no larger answer from a QEMU than 10 MiB. */
export const MAX_OUTPUT_BYTES = 64 << 20;
/** virsh would write to a pipe what it has to say when it ends, and its errors elsewhere. */
const SHELL = 'exec stdbuf -oL virsh "$@" 2>&1';

interface Waiting {
  readonly begin: string;
  readonly end: string;
  resolve(output: string): void;
  reject(error: Error): void;
}

export class VirshSession implements Disposable {
  readonly #child: ChildProcess;
  /** Nobody can make a virsh print it. */
  readonly #id = randomUUID();
  #number = 0;
  #last: Promise<unknown> = Promise.resolve();
  #output = '';
  #waiting: Waiting | undefined;
  #ended: MapramError | undefined;

  /** @param args of virsh, before any command */
  constructor(args: readonly string[]) {
    // In a session of its own, so that ^C in a terminal ends no command halfway.
    const child = spawn('/bin/sh', ['-c', SHELL, 'sh', ...args], {
      stdio: ['pipe', 'pipe', 'ignore'],
      detached: true,
      env: { ...process.env, LC_ALL: 'C', TERM: 'dumb' },
    });
    this.#child = child;
    child.stdin?.on('error', () => {});
    child.stdout?.setEncoding('utf8').on('data', (text: string) => this.#take(text));
    child.once('error', (error) => this.#end(errorReason(error)));
    child.once('close', (code) => this.#end(whyEnded(code, this.#output)));
  }

  /**
   * Runs a command when those before it are through.
   *
   * @returns what it printed
   * @throws MapramError `MONITOR` with its errors, or why there is no virsh
   */
  run(command: readonly string[]): Promise<string> {
    const run = this.#last.then(() => this.#runNow(command));
    this.#last = run.catch(() => {});
    return run;
  }

  async #runNow(command: readonly string[]): Promise<string> {
    if (this.#ended) throw this.#ended;
    const mark = `${this.#id}-${++this.#number}`;
    const output = await new Promise<string>((resolve, reject) => {
      this.#waiting = { begin: `BEGIN ${mark}\n`, end: `\nEND ${mark}\n`, resolve, reject };
      this.#child.stdin?.write(`echo 'BEGIN' ${mark}; ${command.map(quote).join(' ')}; echo 'END' ${mark}\n`);
    });
    const problem = errorsIn(output);
    if (problem !== undefined) throw new MapramError('MONITOR', `virsh ${command[0]}: ${problem}`);
    return output.trim();
  }

  #take(text: string): void {
    this.#output += text;
    if (this.#output.length > MAX_OUTPUT_BYTES) {
      this.#end('its output has no end');
      this.#child.kill();
      return;
    }
    if (this.#waiting === undefined) return;
    const { begin, end, resolve } = this.#waiting;
    // The mark is at the end, if it is there.
    const tail = this.#output.length - text.length - end.length;
    const to = this.#output.indexOf(end, Math.max(0, tail));
    if (to < 0) return;
    const from = this.#output.indexOf(begin);
    this.#waiting = undefined;
    const printed = this.#output.slice(from < 0 ? 0 : from + begin.length, to);
    this.#output = '';
    resolve(printed);
  }

  #end(problem: string): void {
    this.#ended ??= new MapramError('MONITOR', `virsh: ${problem}`);
    this.#waiting?.reject(this.#ended);
    this.#waiting = undefined;
  }

  [Symbol.dispose](): void {
    this.#child.kill();
  }
}

/** In single quotes virsh takes everything as it is. */
function quote(word: string): string {
  return `'${word.replaceAll("'", `'"'"'`)}'`;
}

/** What virsh reports of a command that failed, as one line; whatever else it printed is none of a command that did not. */
function errorsIn(output: string): string | undefined {
  return lastLines(
    output
      .split('\n')
      .filter((line) => line.startsWith('error: '))
      .join('\n'),
  );
}

/** What virsh said, as one line. */
export function lastLines(output: string): string | undefined {
  const lines = output.split('\n').map((line) => line.replace(/^error: /, '').trim());
  return (
    lines
      .filter((line) => line !== '')
      .slice(-4)
      .join(': ') || undefined
  );
}

/** Of a shell that was to become a program. */
const NOT_FOUND = 127;

export function whyEnded(code: number | null, said: string): string {
  const why = lastLines(said) ?? `it ended with code ${code}`;
  return code === NOT_FOUND ? `${why}; virsh comes with libvirt's clients, stdbuf with coreutils` : why;
}
