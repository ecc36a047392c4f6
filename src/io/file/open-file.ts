import { closeSync, constants, type OpenMode, openSync } from 'node:fs';
import { admit } from '../faults.js';

/** Mode of every file that is created: a VM's memory is nobody else's business. */
export const PRIVATE_FILE_MODE = 0o600;

/** `open(2)`; close-on-exec is set. `flags` are those of `fs.constants`. */
export function openFile(path: string, flags: number, mode: OpenMode = PRIVATE_FILE_MODE): number {
  admit('open', 0, () => ({ path: `${path} flags 0o${flags.toString(8)}` }));
  return openSync(path, flags, mode);
}

/** A path that leads to an open file, whatever has become of its name; for this process and its threads. */
export function descriptorPath(fd: number): string {
  return `${process.platform === 'linux' ? '/proc/self/fd' : '/dev/fd'}/${fd}`;
}

/** Opens another description of an open file, with flags of its own. */
export function reopenFile(fd: number, flags: number): number {
  return openFile(descriptorPath(fd), flags & ~constants.O_NOFOLLOW);
}

/** Linux: a descriptor that only stands for a file, for which nothing of a device, a FIFO or a lease happens. Not on every processor. */
const O_PATH = 0o10000000;

/**
 * Opens what a name leads to after a look at it: what is looked at is what is opened, whatever becomes of the name meanwhile, and what is
 * refused is never opened.
 *
 * @param assertWanted called with a descriptor that only stands for the file; throws what is to be thrown
 */
export function openAfterLook(name: string, flags: number, assertWanted: (fd: number) => void): number {
  const place = openFile(name, O_PATH);
  try {
    assertWanted(place);
    return reopenFile(place, flags);
  } finally {
    releaseFiles([place]);
  }
}

/** Closes descriptors with which nothing was written: a failure loses nothing, and none of the others is kept open for it. */
export function releaseFiles(fds: Iterable<number>): void {
  for (const fd of fds) {
    try {
      closeFile(fd);
    } catch {
      // The descriptor is gone all the same.
    }
  }
}

/** `close(2)`. The descriptor is gone even when this throws. */
export function closeFile(fd: number): void {
  try {
    closeSync(fd);
  } finally {
    admit('close', 0, () => ({ fd }));
  }
}
