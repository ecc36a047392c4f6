import { resolve } from 'node:path';
import { defined } from '../../defined.js';
import { errorReason, isError, MapramError } from '../../errors.js';
import { hasErrno } from '../../io/system-error.js';

/**
 * Runs `work`; a system call that fails inside, wherever that is, becomes one sentence about the file, and so does the error of an
 * `AbortController` that nobody gave a reason.
 *
 * @param doing what the user asked for, with the file in it: `saving to vm.mapram`
 * @throws MapramError `NO_SPACE` or `IO` instead of a plain system error, `CANCELLED` instead of an AbortError; everything else as it is
 */
export async function withFileErrors<T>(doing: string, path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof MapramError || !isError(error)) throw error;
    if (error.name === 'AbortError') {
      throw new MapramError('CANCELLED', `${doing}: cancelled`, { path, cause: error });
    }
    if (!('syscall' in error)) throw error;
    const full = hasErrno(error, 'ENOSPC', 'EDQUOT');
    const advice = full ? '; free some space or choose another directory' : '';
    const other = otherPath(error, path);
    const where = other === undefined ? '' : `${other}: `;
    throw new MapramError(full ? 'NO_SPACE' : 'IO', `${doing}: ${where}${errorReason(error)}${advice}`, {
      path,
      cause: error,
    });
  }
}

/** What a system call failed on, where that is not the file that the user named. */
function otherPath(error: Error, named: string): string | undefined {
  const { path: failed } = error as NodeJS.ErrnoException;
  return typeof failed !== 'string' || resolve(failed) === resolve(named) ? undefined : failed;
}

/** How the kernel's ENOSPC and EDQUOT come back from those who met them: Node.js, the C library, QEMU. */
const FULL = /\b(?:ENOSPC|EDQUOT)\b|No space left on device|Disk quota exceeded/i;

/**
 * What went wrong while a file was written, said of the file that the user named and not of its part file; a full disk is
 * `NO_SPACE`, whoever has met it first.
 */
export function failureToWrite(error: unknown, file: string, partPath: string): unknown {
  if (!(error instanceof MapramError) || !['IO', 'NO_SPACE', 'MIGRATION', 'CANCELLED'].includes(error.code))
    return error;
  const told = error.message.replaceAll(partPath, file);
  const full = FULL.test(told);
  const code = full ? 'NO_SPACE' : error.code;
  const about = told.includes(file) ? told : `saving to ${file}: ${told}`;
  const message = code === error.code ? about : `${about}; free some space or choose another directory`;
  if (message === error.message) return error;
  const { path = file, offset } = error;
  return new MapramError(code, message, {
    path: path === partPath ? file : path,
    ...defined({ offset }),
    cause: error,
  });
}
