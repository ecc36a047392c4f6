import { errorReason, MapramError } from '../errors.js';
import { hasErrno } from '../io/system-error.js';

/**
 * Runs `work`; a system call that fails inside, wherever that is, becomes one sentence about the file.
 *
 * @param doing what the user asked for, with the file in it: `saving to vm.mapram`
 * @throws MapramError `NO_SPACE` or `IO` instead of a plain system error; everything else as it is
 */
export async function inOneSentence<T>(doing: string, path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof MapramError || !(error instanceof Error) || !('syscall' in error)) throw error;
    const full = hasErrno(error, 'ENOSPC', 'EDQUOT');
    const advice = full ? '; free some space or choose another directory' : '';
    throw new MapramError(full ? 'NO_SPACE' : 'IO', `${doing}: ${errorReason(error)}${advice}`, {
      path,
      cause: error,
    });
  }
}
