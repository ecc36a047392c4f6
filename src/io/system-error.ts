import { getSystemErrorMap } from 'node:util';
import { isError } from '../errors.js';

/** An error with the members of Node's own system errors, for calls that Node does not make itself. */
export function systemError(errno: number, call: string, path?: string): NodeJS.ErrnoException {
  const [code, text] = getSystemErrorMap().get(-errno) ?? [`errno ${errno}`, 'unknown error'];
  const error: NodeJS.ErrnoException = new Error(
    `${code}: ${text}, ${call}${path === undefined ? '' : ` '${path}'`}`,
  );
  error.errno = -errno;
  error.code = code;
  error.syscall = call;
  if (path !== undefined) error.path = path;
  return error;
}

/** True when `error` is a system error with one of these errno names. */
export function hasErrno(error: unknown, ...codes: string[]): boolean {
  return isError(error) && codes.includes((error as NodeJS.ErrnoException).code ?? '');
}
