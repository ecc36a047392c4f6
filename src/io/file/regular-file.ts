/** Files that the user has not named: whatever another user has put in their place must neither be waited for nor be read. */
import { constants, fstatSync, readFileSync } from 'node:fs';
import { closeFile, openFile } from './open-file.js';

/**
 * The contents of a regular file; undefined where there is none, or a FIFO, device, symbolic link, or more than `maximumBytes`.
 *
 * @throws the system error of a file that cannot be read
 */
export function readRegularFile(path: string, maximumBytes: number): Buffer | undefined {
  let fd: number;
  try {
    // O_NONBLOCK: opening a FIFO must not wait for a writer.
    fd = openFile(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch {
    return undefined;
  }
  try {
    const status = fstatSync(fd);
    return status.isFile() && status.size <= maximumBytes ? readFileSync(fd) : undefined;
  } finally {
    closeFile(fd);
  }
}
