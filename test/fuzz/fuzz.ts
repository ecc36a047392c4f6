/** Feeds changed inputs to readers: none may crash, hang or eat memory, whatever it is given. */
import { Random } from '../trust/random.js';
import { corpusOf } from './corpus.js';
import { mutate } from './mutate.js';
import { type FuzzTarget, isExpected } from './targets.js';

export interface FuzzReport {
  inputs: number;
  /** How many were refused, as most should be, and how many were read all the same. */
  refused: number;
  slowestMs: number;
}

/** A reader has this long for one input, and the process this much memory beyond what it had. */
const LIMITS = { ms: 1000, bytes: 256 << 20 };
const MEMORY_CHECK_EVERY = 500;

/** @throws Error with what it takes to see the same again: target, seed and number of the input */
export async function fuzz(target: FuzzTarget, count: number, seed: number): Promise<FuzzReport> {
  const report: FuzzReport = { inputs: 0, refused: 0, slowestMs: 0 };
  const random = new Random(seed);
  const memory = memoryInUse();
  const known = corpusOf(target);
  // The inputs of the corpus are many and small, and most are refused early: every second input is of a whole seed.
  const starts = [target.seeds, [...target.seeds, ...known]] as const;
  for (let number = 0; number < count; number++) {
    const bytes =
      known[number] ?? mutate(starts[number % 2 === 0 ? 0 : 1], random, target.fixedLength !== true);
    const where = `${target.name}, input ${number} of seed ${seed} (${bytes.length} bytes)`;
    const startedAt = performance.now();
    try {
      await target.read(bytes);
    } catch (error) {
      if (!isExpected(error, target)) throw new Error(`${where}: ${error}`, { cause: error });
      if (error instanceof Error && error.message.length > 2000)
        throw new Error(`${where}: a message without end`);
      report.refused++;
    }
    const elapsed = performance.now() - startedAt;
    // The machine may be busy: what counts is how long the processor works on it, a second time.
    if (elapsed > LIMITS.ms && (await processorTime(target, bytes)) > LIMITS.ms)
      throw new Error(`${where}: takes ${elapsed} ms`);
    report.slowestMs = Math.max(report.slowestMs, elapsed);
    report.inputs++;
    if (number % MEMORY_CHECK_EVERY === 0 && memoryInUse() - memory > LIMITS.bytes) {
      global.gc?.();
      const more = memoryInUse() - memory;
      if (more > LIMITS.bytes) throw new Error(`${where}: ${more} bytes more memory in use`);
    }
  }
  return report;
}

async function processorTime(target: FuzzTarget, bytes: Uint8Array): Promise<number> {
  const before = process.cpuUsage();
  try {
    await target.read(bytes);
  } catch {
    // Judged the first time.
  }
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}

function memoryInUse(): number {
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}
