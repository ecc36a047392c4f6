import { native } from '../native.js';
import { hasErrno } from '../system-error.js';

const LOCK_SH = 1;
const LOCK_EX = 2;
const LOCK_NB = 4;

/**
 * Takes an advisory `flock` on an open file without waiting. It belongs to this open description: another open of the
 * same file, in this process or elsewhere, does not get it, and it ends with the last descriptor, a killed process
 * included. Returns false when somebody else holds it.
 */
export function tryLock(fd: number, kind: 'exclusive' | 'shared'): boolean {
  try {
    native().flock(fd, (kind === 'exclusive' ? LOCK_EX : LOCK_SH) | LOCK_NB);
    return true;
  } catch (error) {
    if (hasErrno(error, 'EAGAIN', 'EWOULDBLOCK')) return false;
    throw error;
  }
}
