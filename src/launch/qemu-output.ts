/** What a program that may be a QEMU prints about itself and ends with, without starting a VM. */
import { spawn } from 'node:child_process';
import { type Stats, statSync } from 'node:fs';
import path from 'node:path';

/** A program that is not a QEMU may do anything. */
const LIMIT_MS = 10_000;
const MAX_OUTPUT_BYTES = 64 << 10;

/**
 * The file that execvp(3) would run; undefined where there is none.
 *
 * @param workingDirectory where a relative path starts
 */
export function programFile(
  program: string,
  workingDirectory: string,
): { path: string; status: Stats } | undefined {
  const folders = program.includes('/') ? [''] : (process.env.PATH ?? '').split(path.delimiter);
  for (const folder of folders) {
    const candidate = path.resolve(workingDirectory, folder, program);
    const status = statSync(candidate, { throwIfNoEntry: false });
    if (status?.isFile() && (status.mode & 0o111) !== 0) return { path: candidate, status };
  }
  return undefined;
}

/** The program's stdout, its first 64 KiB at least; undefined where it cannot be started. It is ended after 10 s. */
export function outputOf(file: string, args: readonly string[]): Promise<string | undefined> {
  return new Promise((resolve) => {
    const child = spawn(file, args, {
      stdio: ['ignore', 'pipe', 'ignore'],
      timeout: LIMIT_MS,
      killSignal: 'SIGKILL',
    });
    let printed = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      printed += text;
      if (printed.length > MAX_OUTPUT_BYTES) child.kill('SIGKILL');
    });
    child.once('error', () => resolve(undefined));
    child.once('close', () => resolve(printed));
  });
}
