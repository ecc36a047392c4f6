import { constants, readFileSync } from 'node:fs';
import * as v from 'valibot';
import { tryLock } from '../../io/file/file-lock.js';
import { closeFile, openFile } from '../../io/file/open-file.js';
import { hasErrno } from '../../io/system-error.js';

/**
 * Opens and locks the record of a process that died.
 *
 * @returns what it says, and its descriptor, which the caller owns; undefined when its process lives, when it was put right meanwhile
 *   (removed between opening and locking, perhaps), or when it is no such record
 */
export function openAbandonedRecord<S extends v.GenericSchema>(
  file: string,
  schema: S,
): { record: v.InferOutput<S>; fd: number } | undefined {
  let fd: number;
  try {
    fd = openFile(file, constants.O_RDWR | constants.O_NOFOLLOW);
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ELOOP')) return undefined;
    throw error;
  }
  let kept = false;
  try {
    if (!tryLock(fd, 'exclusive')) return undefined;
    const { success, output } = v.safeParse(schema, JSON.parse(readFileSync(file, 'utf8')));
    kept = success;
    return success ? { record: output, fd } : undefined;
  } catch (error) {
    if (!hasErrno(error, 'ENOENT') && !(error instanceof SyntaxError)) throw error;
    return undefined;
  } finally {
    if (!kept) closeFile(fd);
  }
}
