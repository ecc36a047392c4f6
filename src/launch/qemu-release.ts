/** Which release of QEMU a program is, before it is started. */
import { spawn } from 'node:child_process';
import { statSync } from 'node:fs';
import path from 'node:path';
import type { QemuRelease } from '../options/qemu-profile.js';

const VERSION = /QEMU emulator version (\d+)\.(\d+)\./;
/** A program that is not a QEMU may do anything. */
const LIMIT_MS = 10_000;
const MAX_OUTPUT_BYTES = 64 << 10;

/** By file: it is asked again when it has changed. */
const known = new Map<string, Promise<QemuRelease | undefined>>();

/**
 * Asks a program with `--version`, once for each file. Undefined where it does not answer as a QEMU.
 *
 * @param workingDirectory where a relative path starts
 */
export function qemuRelease(program: string, workingDirectory: string): Promise<QemuRelease | undefined> {
  const file = fileOf(program, workingDirectory);
  if (file === undefined) return Promise.resolve(undefined);
  const { dev, ino, size, mtimeMs, ctimeMs } = file.status;
  const key = [file.path, dev, ino, size, mtimeMs, ctimeMs].join('\0');
  const answer = known.get(key) ?? ask(file.path);
  known.set(key, answer);
  return answer;
}

/** The file that execvp(3) would run. */
function fileOf(program: string, workingDirectory: string) {
  const folders = program.includes('/') ? [''] : (process.env.PATH ?? '').split(path.delimiter);
  for (const folder of folders) {
    const candidate = path.resolve(workingDirectory, folder, program);
    const status = statSync(candidate, { throwIfNoEntry: false });
    if (status?.isFile() && (status.mode & 0o111) !== 0) return { path: candidate, status };
  }
  return undefined;
}

function ask(file: string): Promise<QemuRelease | undefined> {
  return new Promise((resolve) => {
    const child = spawn(file, ['--version'], {
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
    child.once('close', () => {
      const [, major, minor] = VERSION.exec(printed) ?? [];
      resolve(major === undefined ? undefined : [Number(major), Number(minor)]);
    });
  });
}
