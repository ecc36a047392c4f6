import { admit } from '../faults.js';
import { native } from '../native.js';
import { hasErrno } from '../system-error.js';

/** _IOW(0x94, 13, struct file_clone_range): source descriptor, its offset, length, offset in the target, 64 bits each. */
const FICLONERANGE = 0x4020_940d;
const ARGUMENT_BYTES = 32;

/** What file systems say that cannot do it, or not between these two files. */
const NOT_OFFERED = ['EOPNOTSUPP', 'ENOTSUP', 'ENOTTY', 'EXDEV', 'EINVAL', 'EPERM', 'ETXTBSY', 'ENOSYS'];

/**
 * Makes a range of `target` the same blocks on disk as a range of `source`, until one of them is written to (reflink: XFS, Btrfs). All
 * three numbers are multiples of the file system's block size.
 *
 * @returns false where the file system cannot do that
 */
export function shareRange(
  source: number,
  sourceOffset: number,
  length: number,
  target: number,
  targetOffset: number,
): boolean {
  admit('write');
  const argument = Buffer.alloc(ARGUMENT_BYTES);
  for (const [index, value] of [source, sourceOffset, length, targetOffset].entries()) {
    argument.writeBigInt64LE(BigInt(value), index * 8);
  }
  try {
    native().ioctl(target, FICLONERANGE, argument);
    return true;
  } catch (error) {
    if (hasErrno(error, ...NOT_OFFERED)) return false;
    throw error;
  }
}
