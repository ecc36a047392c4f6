import { MapramError } from '../errors.js';

/**
 * The error for bytes that break the format: `reading NAME: PROBLEM at offset N`.
 *
 * @param name the file or stream, for people
 * @param offset where in it, in bytes
 */
export function malformed(name: string, offset: number, problem: string, advice = ''): MapramError {
  return new MapramError(
    'FORMAT',
    `reading ${name}: ${problem} at offset ${offset}${advice && `; ${advice}`}`,
    {
      offset,
    },
  );
}
