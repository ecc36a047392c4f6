import { errorReason, MapramError } from '../../errors.js';
import { truncateFile } from '../file/file-space.js';
import { closeFile } from '../file/open-file.js';
import { native } from '../native.js';
import { hasErrno } from '../system-error.js';

const MFD_CLOEXEC = 1;

/**
 * Anonymous memory with a descriptor, `length` bytes long and all hole. The caller closes the descriptor; other
 * processes may open it as `/proc/PID/fd/N`.
 */
export function createMemfd(name: string, length: number): number {
  let fd: number | undefined;
  try {
    fd = native().memfdCreate(name, MFD_CLOEXEC);
    truncateFile(fd, length);
    return fd;
  } catch (error) {
    if (fd !== undefined) closeFile(fd);
    throw new MapramError('IO', `creating ${length} bytes of memory "${name}": ${errorReason(error)}`, {
      cause: error,
    });
  }
}

const F_GET_SEALS = 1034;
const F_SEAL_SHRINK = 2;

/** Whether no one can make the file shorter. Only memfds, and huge pages in them, can be sealed so; QEMU's are by default. */
export function isSealedAgainstShrinking(fd: number): boolean {
  try {
    return (native().fcntl(fd, F_GET_SEALS, 0) & F_SEAL_SHRINK) !== 0;
  } catch (error) {
    if (hasErrno(error, 'EINVAL')) return false;
    throw error;
  }
}
