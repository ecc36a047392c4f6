/** Lets the n-th system call of each kind fail, for every n of a whole operation. */
import { readdirSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { type Fault, IO_CALLS, type IoCall, installFaults } from '../../src/io/faults.js';
import { endIdleThreads } from '../../src/threads/thread-pool.js';

/** What such a call fails with in real life. */
const ERRNO: Record<IoCall, NonNullable<Fault['errno']>> = {
  open: 'EMFILE',
  close: 'EIO',
  read: 'EIO',
  write: 'ENOSPC',
  truncate: 'EIO',
  allocate: 'ENOSPC',
  punch: 'EIO',
  sync: 'EIO',
  map: 'ENOMEM',
  rename: 'EIO',
  link: 'EIO',
  unlink: 'EIO',
  worker: 'ENOMEM',
};

/** Which of all faults: at most `most` of each kind of call, and of those every `of`-th, from number `part` on. */
export interface FaultChoice {
  most: number;
  /** Those before it are left out: where a walk that was interrupted goes on. */
  from?: { call: IoCall; nth: number };
  part?: number;
  of?: number;
}

/** Counts the calls of a run without faults, and gives a fault for each of them that is chosen. */
export async function faultsOf(
  run: () => Promise<unknown>,
  { most, from, part = 1, of = 1 }: FaultChoice,
): Promise<Fault[]> {
  using counting = installFaults([]);
  await run();
  const counts = counting.counts();
  const calls = from ? IO_CALLS.slice(IO_CALLS.indexOf(from.call)) : IO_CALLS;
  return calls
    .flatMap((call) => {
      const count = counts[call];
      const step = Math.max(1, Math.ceil(count / most));
      return Array.from({ length: Math.ceil(count / step) }, (_, index) => ({
        call,
        nth: 1 + index * step,
        errno: ERRNO[call],
      })).filter(({ nth }) => call !== from?.call || nth >= from.nth);
    })
    .filter((_, index) => index % of === part - 1);
}

/** Calls that move less than asked, or take their time, all through an operation: none of them is a failure. */
export const NUISANCES: readonly Fault[] = [
  { call: 'write', nth: 1, times: Number.POSITIVE_INFINITY, maximumBytes: 4096 },
  { call: 'read', nth: 1, times: Number.POSITIVE_INFINITY, maximumBytes: 4096 },
  { call: 'write', nth: 3, times: 5, errno: 'EINTR' },
  { call: 'write', nth: 3, times: 5, errno: 'EAGAIN' },
  { call: 'sync', nth: 1, delayMs: 50 },
  { call: 'write', nth: 2, delayMs: 50 },
];

export const describeFault = ({ call, nth, errno, maximumBytes, delayMs }: Fault): string =>
  `${call} ${nth}: ${errno ?? (delayMs === undefined ? `at most ${maximumBytes} bytes` : `${delayMs} ms late`)}`;

/** What an operation could leak: descriptors by what they are open on, and what keeps the event loop. */
export async function resourcesInUse(): Promise<Record<string, number>> {
  await endIdleThreads();
  await setImmediate();
  const inUse: Record<string, number> = { descriptors: readdirSync('/proc/self/fd').length };
  for (const name of process.getActiveResourcesInfo()) {
    if (/MessagePort|Worker|TCP|Pipe|Process/.test(name)) inUse[name] = (inUse[name] ?? 0) + 1;
  }
  return inUse;
}
