/** fio as the yardstick for what a disk can do. */
import { runProcess } from './process-usage.js';

export interface FioJob {
  engine: 'psync' | 'io_uring';
  jobs: number;
  /** Requests under way at once; 1 for psync. */
  depth: number;
}

/** The ways in which fio was found to be fastest on one disk or another. */
export const fioJobs: readonly { name: string; job: FioJob }[] = [
  { name: 'fio psync, 2 jobs', job: { engine: 'psync', jobs: 2, depth: 1 } },
  { name: 'fio psync, 4 jobs', job: { engine: 'psync', jobs: 4, depth: 1 } },
  { name: 'fio io_uring, depth 8', job: { engine: 'io_uring', jobs: 1, depth: 8 } },
];

const BLOCK = 4 * 2 ** 20;

/**
 * Writes or reads a file with O_DIRECT from end to end, in requests of 4 MiB.
 *
 * @returns seconds of the I/O itself, as fio measured them, and its CPU time
 */
export async function fioDirect(
  direction: 'read' | 'write',
  file: string,
  bytes: number,
  { engine, jobs, depth }: FioJob,
): Promise<{ seconds: number; cpuSeconds: number }> {
  const share = Math.floor(bytes / jobs / BLOCK) * BLOCK;
  const { stdout, cpuSeconds } = await runProcess('fio', [
    '--name=disk',
    `--filename=${file}`,
    `--rw=${direction}`,
    '--direct=1',
    `--bs=${BLOCK}`,
    `--ioengine=${engine}`,
    `--iodepth=${depth}`,
    `--numjobs=${jobs}`,
    `--size=${share}`,
    `--offset_increment=${share}`,
    '--group_reporting',
    '--output-format=json',
  ]);
  const report: { jobs: { [key in 'read' | 'write']: { runtime: number; io_bytes: number } }[] } =
    JSON.parse(stdout);
  const done = report.jobs[0]?.[direction];
  if (done === undefined || done.io_bytes !== share * jobs)
    throw new Error(`fio moved ${done?.io_bytes} bytes instead of ${share * jobs}`);
  // Rounding to whole requests may have left a little out.
  return { seconds: (done.runtime / 1000) * (bytes / done.io_bytes), cpuSeconds };
}
