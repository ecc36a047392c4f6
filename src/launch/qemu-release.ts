/** Which release of QEMU a program is, before it is started. */
import type { QemuRelease } from '../options/qemu-profile.js';
import { outputOf, programFile } from './qemu-output.js';

const VERSION = /QEMU emulator version (\d+)\.(\d+)\./;

/** By file: it is asked again when it has changed. */
const known = new Map<string, Promise<QemuRelease | undefined>>();

/**
 * Asks a program with `--version`, once for each file. Undefined where it does not answer as a QEMU.
 *
 * @param workingDirectory where a relative path starts
 */
export function qemuRelease(program: string, workingDirectory: string): Promise<QemuRelease | undefined> {
  const file = programFile(program, workingDirectory);
  if (file === undefined) return Promise.resolve(undefined);
  const { dev, ino, size, mtimeMs, ctimeMs } = file.status;
  const key = [file.path, dev, ino, size, mtimeMs, ctimeMs].join('\0');
  const answer = known.get(key) ?? ask(file.path);
  known.set(key, answer);
  return answer;
}

async function ask(file: string): Promise<QemuRelease | undefined> {
  const [, major, minor] = VERSION.exec((await outputOf(file, ['--version'])) ?? '') ?? [];
  return major === undefined ? undefined : [Number(major), Number(minor)];
}
