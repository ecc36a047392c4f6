import { linkSync, renameSync, unlinkSync } from 'node:fs';
import { admit } from '../faults.js';

/** `rename(2)`: replaces `to` in one step. Durable only after `syncDirectoryOf(to)`. */
export function renameFile(from: string, to: string): void {
  admit('rename', 0, () => ({ path: `${from} to ${to}` }));
  renameSync(from, to);
}

/** `link(2)`: gives a file a second name, and fails with EEXIST where that name is taken. */
export function linkFile(existing: string, name: string): void {
  admit('link', 0, () => ({ path: `${existing} as ${name}` }));
  linkSync(existing, name);
}

/** `unlink(2)`. */
export function unlinkFile(name: string): void {
  admit('unlink', 0, () => ({ path: name }));
  unlinkSync(name);
}
