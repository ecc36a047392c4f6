import { constants, fdatasync, fsync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { admit } from '../faults.js';
import { closeFile, openFile } from './open-file.js';

const fdatasyncAsync = promisify(fdatasync);
const fsyncAsync = promisify(fsync);

/** Waits until a file's data, and the metadata needed to read it back, are on the disk. Covers O_DIRECT writes too: their extents and the disk's cache are flushed by nothing else. */
export async function syncFileData(fd: number): Promise<void> {
  admit('sync', 0, () => ({ fd }));
  await fdatasyncAsync(fd);
}

/** Makes names durable: the directory of `file` is synced after a create, rename or unlink in it. */
export async function syncDirectoryOf(file: string): Promise<void> {
  const fd = openFile(path.dirname(file), constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    admit('sync', 0, () => ({ fd }));
    await fsyncAsync(fd);
  } finally {
    closeFile(fd);
  }
}
