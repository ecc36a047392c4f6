// Saves a VM several times while this process may have only a few descriptors more than it has; writes what became of each as JSON.
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { save } from '../../src/snapshot/save.js';

const [vm = '', folder = ''] = process.argv.slice(2);
const outcomes: string[] = [];
process.on('uncaughtException', (error) => {
  console.log(JSON.stringify([...outcomes, `uncaught: ${error.stack}`]));
  process.exit(3);
});

function limitDescriptors(limit: number | 'hard'): void {
  const value = limit === 'hard' ? '4096' : String(limit);
  const { status } = spawnSync('prlimit', ['--pid', String(process.pid), `--nofile=${value}:`], {
    stdio: 'ignore',
  });
  if (status !== 0) throw new Error(`prlimit ended with ${status}`);
}

const attempt = (file: string) =>
  save({ vm, file: path.join(folder, file), method: 'stream', channels: 2 }).then(
    () => 'saved',
    (error: NodeJS.ErrnoException) => error.code ?? String(error),
  );

// Everything is loaded then.
outcomes.push(await attempt('first'));
for (let more = 2; more <= 32; more += 3) {
  const highest = Math.max(...readdirSync('/proc/self/fd').map(Number));
  limitDescriptors(highest + more);
  outcomes.push(await attempt(`with-${more}`));
  limitDescriptors('hard');
}
console.log(JSON.stringify(outcomes));
process.exit(0);
