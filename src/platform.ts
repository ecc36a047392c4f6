import { constants } from 'node:fs';

/**
 * Whether this platform has O_DIRECT at all (macOS and Windows do not). Says nothing about a file system. `flags` is for tests.
 */
export function platformHasDirectIo(flags: { readonly O_DIRECT?: number | undefined } = constants): boolean {
  return flags.O_DIRECT !== undefined && flags.O_DIRECT !== 0;
}
