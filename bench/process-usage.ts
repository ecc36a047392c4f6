/** What processes take: CPU time and memory, from /proc and from the shell's `times`. */
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import type { Readable } from 'node:stream';

/** USER_HZ, the unit of CPU times in /proc; 100 on every Linux. */
const TICKS_PER_SECOND = 100;
const MEMORY_POLL_MS = 20;

/** User and system time of all threads of a running process so far, in seconds. */
export function cpuSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  // The command's name, in parentheses, may hold anything; the fields after it start with the state.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

/** Private memory of a process and its children in bytes, without files and shared memory that it maps. */
function privateMemory(pid: number): number {
  try {
    const kib = readFileSync(`/proc/${pid}/status`, 'utf8').match(/^RssAnon:\s*(\d+) kB$/m)?.[1];
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim();
    return children
      .split(' ')
      .filter(Boolean)
      .reduce((sum, child) => sum + privateMemory(Number(child)), Number(kib ?? 0) * 1024);
  } catch {
    return 0;
  }
}

export interface ProcessRun {
  seconds: number;
  cpuSeconds: number;
  peakMemoryBytes: number;
  stdout: string;
}

async function text(stream: Readable): Promise<string> {
  let result = '';
  for await (const chunk of stream.setEncoding('utf8')) result += chunk;
  return result;
}

/** `0m1.230s` in seconds. */
function shellTime(word: string): number {
  const [minutes, seconds] = word.split('m');
  return Number(minutes) * 60 + Number.parseFloat(seconds ?? '');
}

/**
 * Runs a command to its end. A shell starts it, because Node does not tell the CPU time of its children and `times`
 * does: two lines, of the shell and of the children, user time and system time in each.
 *
 * @throws Error with the command's stderr when it fails
 */
export async function runProcess(command: string, args: readonly string[]): Promise<ProcessRun> {
  const script = '"$@"; status=$?; times >&3; exit $status';
  const start = performance.now();
  const child = spawn('sh', ['-c', script, 'sh', command, ...args], {
    stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
  });
  let peakMemoryBytes = 0;
  const timer = setInterval(() => {
    if (child.pid !== undefined) peakMemoryBytes = Math.max(peakMemoryBytes, privateMemory(child.pid));
  }, MEMORY_POLL_MS);
  try {
    const [stdout, stderr, times, code] = await Promise.all([
      text(child.stdout as Readable),
      text(child.stderr as Readable),
      text(child.stdio[3] as Readable),
      new Promise<number | null>((resolve, reject) => child.once('error', reject).once('close', resolve)),
    ]);
    const seconds = (performance.now() - start) / 1000;
    if (code !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${code}: ${stderr.trim()}`);
    const ofChildren = times.trim().split('\n').at(-1) ?? '';
    const total = ofChildren.split(' ').reduce((sum, word) => sum + shellTime(word), 0);
    return { seconds, cpuSeconds: total, peakMemoryBytes, stdout };
  } finally {
    clearInterval(timer);
  }
}
