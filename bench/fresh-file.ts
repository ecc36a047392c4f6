/** A file to write in a measured run: absent before, synced after. */
import { closeSync, fsyncSync, openSync, rmSync, statSync } from 'node:fs';
import { residentBytes } from '../test/support/probes.js';
import { runProcess } from './process-usage.js';

/** Removes the file of the last run and lets the disk come to rest. */
export async function startFresh(file: string): Promise<void> {
  rmSync(file, { force: true });
  await runProcess('sync', []);
}

/** Seconds that it took to bring the file onto the disk. */
export function timedSync(file: string): number {
  const start = performance.now();
  const fd = openSync(file, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  return (performance.now() - start) / 1000;
}

export const cachedShare = (file: string): number => residentBytes(file) / statSync(file).size;
