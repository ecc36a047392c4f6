/** FUSE file systems in tests. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fuseProblem } from '../../src/io/file/fuse-mount.js';

/** Options for tests that mount: skipped, with the reason, where this host does not let this user. */
export function needsFuse(): { skip?: string } {
  const problem = fuseProblem();
  return problem === undefined ? {} : { skip: problem };
}

/** File systems of mapram's that are mounted below a folder. */
export function mountsBelow(folder: string): string[] {
  return readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' '))
    .filter(([, place = '', type]) => type === 'fuse.mapram' && place.startsWith(`${folder}/`))
    .map(([, place = '']) => place);
}

/** Before a folder is removed: servers end a few seconds after their last user, or now. */
export function unmountBelow(folder: string): void {
  const [program = '', ...args] =
    process.geteuid?.() === 0 ? ['umount', '-l', '-n'] : ['fusermount3', '-u', '-z'];
  for (const place of mountsBelow(folder)) spawnSync(program, [...args, place], { stdio: 'ignore' });
}
