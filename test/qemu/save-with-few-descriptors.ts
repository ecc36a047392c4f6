// Saves a VM several times while this process may have only a few descriptors more than it has; writes what became of each as JSON.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { save } from '../../src/snapshot/save/save.js';

const [vm = '', folder = ''] = process.argv.slice(2);
const outcomes: string[] = [];
process.on('uncaughtException', (error) => {
  console.log(JSON.stringify([...outcomes, `uncaught: ${error.stack}`]));
  process.exit(3);
});

/** Started before any limit: to start a process takes descriptors as well. */
const limiter = spawn(
  'sh',
  ['-c', `while read n; do prlimit --pid ${process.pid} --nofile=$n:; echo; done`],
  {
    stdio: ['pipe', 'pipe', 'inherit'],
  },
);

async function limitDescriptors(limit: number): Promise<void> {
  const done = once(limiter.stdout, 'data');
  limiter.stdin.write(`${limit}\n`);
  await done;
}

/** The numbers of descriptors that are open need not be the lowest. */
function limitThatLeaves(free: number): number {
  const open = new Set(readdirSync('/proc/self/fd').map(Number));
  let limit = 0;
  for (let left = free; left > 0; limit++) if (!open.has(limit)) left--;
  return limit;
}

const attempt = (file: string) =>
  save({ vm, file: path.join(folder, file), method: 'stream', channels: 2 }).then(
    () => 'saved',
    (error: NodeJS.ErrnoException) => error.code ?? String(error),
  );

// Everything is loaded then.
outcomes.push(await attempt('first'));
for (let more = 2; more <= 32; more += 3) {
  await limitDescriptors(limitThatLeaves(more));
  outcomes.push(await attempt(`with-${more}`));
  await limitDescriptors(4096);
}
limiter.kill();
console.log(JSON.stringify(outcomes));
process.exit(0);
