/**
 * The one place where system calls on files can be made to fail, for tests: the n-th call of a kind gives an error,
 * does less than asked, or takes longer.
 *
 * Every function of this folder that moves data, space or names asks `admit` first. Calls are counted over all
 * threads: the counters are shared memory and workers find the faults in their environment data, so "the 7th
 * write" is the 7th write of the process, whichever channel makes it. Without installed faults the cost is
 * one comparison.
 */
import { constants } from 'node:os';
import { getEnvironmentData, setEnvironmentData } from 'node:worker_threads';
import { type CallTarget, isTracing, traceCall } from './call-trace.js';
import { systemError } from './system-error.js';

/** The kinds that are told apart. Zeroing a range by punching counts as `punch`, both sync calls as `sync`. */
export const IO_CALLS = [
  'open',
  'close',
  'read',
  'write',
  'truncate',
  'allocate',
  'punch',
  'sync',
  'map',
  'rename',
  'link',
  'unlink',
  'worker',
] as const;
export type IoCall = (typeof IO_CALLS)[number];

export interface Fault {
  call: IoCall;
  /** The first call that is concerned, counted from 1 at installation. */
  nth: number;
  /** How many calls from `nth` on; default 1, `Infinity` for all of them. */
  times?: number;
  /** Fail with this errno name, for example `ENOSPC`. */
  errno?: keyof typeof constants.errno;
  /** Move at most this many bytes (reads and writes only; at least 1). */
  maximumBytes?: number;
  /** Wait before the call is made. */
  delayMs?: number;
  /** End the thread that makes the call: a dying worker, or in the main thread a dying process. */
  exit?: boolean;
}

/** Installed faults; disposing restores what was there before. */
export interface InstalledFaults extends Disposable {
  /** Calls made so far, by kind, failed ones included. */
  counts(): Record<IoCall, number>;
}

interface FaultPlan {
  faults: Fault[];
  counters: SharedArrayBuffer;
}

const ENVIRONMENT_KEY = 'mapram.faults';
/** Set where there is something to be found in the environment data: asking for them takes Node's module of threads. */
const ANNOUNCEMENT = 'MAPRAM_FAULTS';

let plan = process.env[ANNOUNCEMENT] === undefined ? undefined : plannedForThread();

function plannedForThread(): FaultPlan | undefined {
  return getEnvironmentData(ENVIRONMENT_KEY) as unknown as FaultPlan | undefined;
}

/** Starts counting and failing. Workers take part if they are started afterwards. */
export function installFaults(faults: Fault[]): InstalledFaults {
  const before = plan;
  const counters = new SharedArrayBuffer(IO_CALLS.length * Int32Array.BYTES_PER_ELEMENT);
  const use = (next: FaultPlan | undefined) => {
    plan = next;
    setEnvironmentData(ENVIRONMENT_KEY, next as never);
    if (next === undefined) delete process.env[ANNOUNCEMENT];
    else process.env[ANNOUNCEMENT] = 'planned';
  };
  use({ faults, counters });
  return {
    counts() {
      const values = new Int32Array(counters);
      return Object.fromEntries(IO_CALLS.map((call, index) => [call, Atomics.load(values, index)])) as Record<
        IoCall,
        number
      >;
    },
    [Symbol.dispose]: () => use(before),
  };
}

/** What stands for the faults that are planned at present: another value whenever they change, none without any. */
export function plannedFaults(): object | undefined {
  return plan;
}

/**
 * Announces a call of `length` bytes (0 where that means nothing). Returns how many bytes may be moved; throws
 * the planned error, as the system call would.
 *
 * @param target what the call is about, asked for only when calls are traced; none where native.ts makes the call, which traces its own
 */
export function admit(call: IoCall, length = 0, target?: () => CallTarget): number {
  if (isTracing && target) traceCall(call, length, target());
  return plan === undefined ? length : consult(plan, call, length);
}

function consult({ faults, counters }: FaultPlan, call: IoCall, length: number): number {
  const count = Atomics.add(new Int32Array(counters), IO_CALLS.indexOf(call), 1) + 1;
  let allowed = length;
  for (const fault of faults) {
    if (fault.call !== call || count < fault.nth || count >= fault.nth + (fault.times ?? 1)) continue;
    if (fault.delayMs !== undefined) pause(fault.delayMs);
    if (fault.exit) process.exit();
    if (fault.errno !== undefined) throw systemError(constants.errno[fault.errno], call);
    if (fault.maximumBytes !== undefined) allowed = Math.min(allowed, Math.max(1, fault.maximumBytes));
  }
  return allowed;
}

function pause(milliseconds: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
}
