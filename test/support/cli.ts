/** The `mapram` command as a user runs it: a process of its own. */
import { spawn } from 'node:child_process';
import path from 'node:path';
import { repositoryRoot } from './environment.js';

export interface CliResult {
  code: number | null;
  stdout: string;
  stderr: string;
}

export interface CliRun {
  pid: number;
  finished: Promise<CliResult>;
}

export function startCli(args: readonly string[]): CliRun {
  const main = path.join(repositoryRoot, 'build', 'src', 'cli', 'main.js');
  const child = spawn(process.execPath, [main, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  if (child.pid === undefined) throw new Error(`${process.execPath} was not started`);
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const finished = new Promise<CliResult>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => resolve({ code, stdout, stderr }));
  });
  return { pid: child.pid, finished };
}

/** The object on the last line of a `--json` run, which must have ended well. */
export function cliResult({ code, stdout, stderr }: CliResult): Record<string, unknown> {
  if (code !== 0) throw new Error(`mapram ended with ${code}: ${stderr}`);
  return JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '');
}
