import { type ChildProcess, spawn } from 'node:child_process';
import path from 'node:path';

/** What a finished command line left behind. */
export interface CliRun {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
  /** stdout read as JSON lines. */
  readonly lines: Record<string, unknown>[];
  /** The last of them. */
  readonly result: Record<string, unknown>;
}

export interface RunOptions {
  readonly env?: Record<string, string>;
  readonly input?: string;
  /** The program to run instead of the real command line. */
  readonly main?: string;
  /** Called with the child and all of stdout so far, whenever there is more. */
  onStdout?(child: ChildProcess, stdout: string): void;
}

const MAIN = path.join(import.meta.dirname, '..', '..', 'src', 'cli', 'main.js');

/** Runs `mapram ARGS…` as a child process, as a user's shell would, without a terminal. */
export async function runCli(args: readonly string[], options: RunOptions = {}): Promise<CliRun> {
  const child = spawn(process.execPath, [options.main ?? MAIN, ...args], {
    env: { ...process.env, ...options.env },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
    options.onStdout?.(child, stdout);
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  child.stdin.end(options.input ?? '');
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  });
  const run: CliRun = {
    code,
    stdout,
    stderr,
    get lines() {
      const written = stdout.split('\n').filter((line) => line !== '');
      return written.map((line) => JSON.parse(line) as Record<string, unknown>);
    },
    get result() {
      const last = run.lines.at(-1);
      if (last === undefined) throw new Error(`no line on stdout; stderr: ${stderr}`);
      return last;
    },
  };
  return run;
}
