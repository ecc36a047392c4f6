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
