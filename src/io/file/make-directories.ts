import { mkdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { hasErrno } from '../system-error.js';

/**
 * Creates a directory and those above it that are missing; one that exists stays as it is. Unlike Node's recursive mkdir this ends
 * where the kernel says ENOENT for a directory that cannot be (in /proc): Node 20 tries again for ever.
 *
 * @param mode of every directory that is created
 * @throws the system error: `EEXIST` or `ENOTDIR` for something that is not a directory
 */
export function makeDirectories(directory: string, mode: number): void {
  try {
    mkdirSync(directory, { mode });
  } catch (error) {
    if (hasErrno(error, 'EEXIST') && statSync(directory, { throwIfNoEntry: false })?.isDirectory()) return;
    const parent = path.dirname(directory);
    const isMissing = hasErrno(error, 'ENOENT') && statSync(parent, { throwIfNoEntry: false }) === undefined;
    if (!isMissing || parent === directory) throw error;
    makeDirectories(parent, mode);
    mkdirSync(directory, { mode });
  }
}
