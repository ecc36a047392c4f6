import { readFileSync } from 'node:fs';
import { native } from './native.js';

const F_GETFL = 3;
const F_DUPFD_CLOEXEC = 1030;

/** Another descriptor for the same open file, position and flags shared; close-on-exec. The caller closes it. */
export function duplicateDescriptor(fd: number): number {
  return native().fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

/** The flags of the open file: access mode, O_DIRECT and so on, as in `fs.constants`. */
export function descriptorFlags(fd: number): number {
  return native().fcntl(fd, F_GETFL, 0);
}

/** Where the system does not say; POSIX promises 20. */
const USUAL_LIMIT = 1024;

/** How many descriptors this process may have (RLIMIT_NOFILE, in `/proc/self/limits`; Node raises it to the hard limit). */
export function descriptorLimit(): number {
  try {
    const [, soft] = /^Max open files +(\d+)/m.exec(readFileSync('/proc/self/limits', 'latin1')) ?? [];
    return soft === undefined ? USUAL_LIMIT : Number(soft);
  } catch {
    return USUAL_LIMIT;
  }
}
