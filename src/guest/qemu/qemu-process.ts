/** Whether a process is a QEMU: at the other end of a monitor's socket may as well be a relay. */
import { closeSync, openSync, readFileSync, readlinkSync, readSync } from 'node:fs';
import path from 'node:path';

/** `qemu-system-x86_64`, `qemu-kvm`, `kvm`, `.qemu-system-x86_64-wrapped`. */
const QEMU_NAME = /(^|[^a-z])(qemu|kvm)([^a-z]|$)/i;

/** What `qemu-system-… -version` prints, in the program itself. */
const VERSION_TEXT = Buffer.from('QEMU emulator version');
const CHUNK_BYTES = 1 << 20;
/** No program is larger; QEMU has 30 to 90 MB with its debugging information left out. */
const MAX_PROGRAM_BYTES = 512 << 20;

/**
 * By the program that process `pid` runs: its name, or, where that says nothing, its contents. Where the program may not be
 * looked at (another user's process) the name by which it was called decides.
 */
export function isQemuProcess(pid: number): boolean {
  const program = programOf(pid);
  if (program !== undefined) {
    if (QEMU_NAME.test(path.basename(program))) return true;
    return program !== process.execPath && holdsVersionText(`/proc/${pid}/exe`);
  }
  const [calledAs = ''] = textOf(`/proc/${pid}/cmdline`).split('\0');
  return QEMU_NAME.test(path.basename(calledAs));
}

function programOf(pid: number): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/exe`);
  } catch {
    return undefined;
  }
}

function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

function holdsVersionText(program: string): boolean {
  let fd: number | undefined;
  try {
    fd = openSync(program, 'r');
    // What may be the beginning of the text at the end of one chunk is kept before the next one.
    const buffer = Buffer.alloc(VERSION_TEXT.length + CHUNK_BYTES);
    for (let position = 0; position < MAX_PROGRAM_BYTES; ) {
      const count = readSync(fd, buffer, VERSION_TEXT.length, CHUNK_BYTES, position);
      if (count === 0) return false;
      const end = VERSION_TEXT.length + count;
      if (buffer.subarray(0, end).includes(VERSION_TEXT)) return true;
      buffer.copyWithin(0, end - VERSION_TEXT.length, end);
      position += count;
    }
    return false;
  } catch {
    return false;
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}
