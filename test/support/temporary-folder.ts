import { mkdtempSync, realpathSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';

const folders: string[] = [];

/**
 * A new, empty folder for one test file, which goes with its process.
 *
 * @returns its path without links in it
 */
export function temporaryFolder(name = 'test'): string {
  if (folders.length === 0) process.once('exit', removeAll);
  const folder = realpathSync(mkdtempSync(path.join(os.tmpdir(), `mapram-${name}-`)));
  folders.push(folder);
  return folder;
}

function removeAll(): void {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
}
