import { linkSync, renameSync, unlinkSync } from 'node:fs';
import { admit } from './faults.js';

/** `rename(2)`: replaces `to` in one step. Durable only after `syncDirectoryOf(to)`. */
export function renameFile(from: string, to: string): void {
  admit('rename');
  renameSync(from, to);
}

/** `link(2)`: gives a file a second name, and fails with EEXIST where that name is taken. */
export function linkFile(existing: string, name: string): void {
  admit('link');
  linkSync(existing, name);
}

/** `unlink(2)`. */
export function unlinkFile(name: string): void {
  admit('unlink');
  unlinkSync(name);
}
