/** Part files of saves that died: recognised by their name, and by nobody holding their lock. */

import { constants, fstatSync, readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { tryLock } from '../../io/file/file-lock.js';
import { unlinkFile } from '../../io/file/file-names.js';
import { allocatedBytes } from '../../io/file/file-space.js';
import { closeFile, openFile } from '../../io/file/open-file.js';
import { hasErrno } from '../../io/system-error.js';
import type { Bytes } from '../../units.js';
import { targetOfPart } from './target-file.js';

export interface LeftOverPart {
  path: string;
  /** The file that it was to become. */
  target: string;
  /** What it takes on the disk. */
  bytes: Bytes;
}

/** The left-over part files in a directory; those that are being written are not among them. */
export function findLeftOvers(directory: string): LeftOverPart[] {
  return readdirSync(directory).flatMap((name) => leftOverAt(path.join(directory, name)) ?? []);
}

/** The left-over part file of that path, undefined where there is none. */
export function leftOverAt(file: string): LeftOverPart | undefined {
  const target = targetOfPart(file);
  if (target === undefined) return undefined;
  const bytes = withLock(file, (fd) => allocatedBytes(fd));
  return bytes === undefined ? undefined : { path: file, target, bytes };
}

/** Removes a part file unless somebody writes it. Returns whether it did. */
export function removeLeftOver(partPath: string): boolean {
  if (targetOfPart(partPath) === undefined) return false;
  const removed = withLock(partPath, () => {
    unlinkFile(partPath);
    return true;
  });
  return removed === true;
}

/** Runs `use` on a regular file of this user that nobody has locked; undefined for any other. */
function withLock<T>(file: string, use: (fd: number) => T): T | undefined {
  let fd: number;
  try {
    fd = openFile(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'ELOOP', 'EACCES', 'ENXIO')) return undefined;
    throw error;
  }
  try {
    const status = fstatSync(fd);
    if (!status.isFile() || status.uid !== process.getuid?.() || !tryLock(fd, 'exclusive')) return undefined;
    // Published meanwhile?
    if (statSync(file, { throwIfNoEntry: false })?.ino !== status.ino) return undefined;
    return use(fd);
  } finally {
    closeFile(fd);
  }
}
