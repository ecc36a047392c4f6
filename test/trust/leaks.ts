/** The same operations again and again in this process: what it holds afterwards must not grow with their number. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { MapramError } from '../../src/errors.js';
import { BuiltinGuest } from '../../src/guest/builtin/builtin-guest.js';
import { MonitorListener } from '../../src/monitor/monitor-listener.js';
import { restore } from '../../src/snapshot/restore/restore.js';
import { type SaveOptions, save } from '../../src/snapshot/save/save.js';
import { verify } from '../../src/snapshot/verify/verify.js';
import type { TestVm } from '../support/qemu.js';

/** What a process may run out of. */
export interface Held {
  /** Of which it may have 65,530. */
  mappings: number;
  descriptors: number;
  threads: number;
  rssMiB: number;
}

export function held(): Held {
  return {
    mappings: readFileSync('/proc/self/maps', 'latin1').split('\n').length - 1,
    descriptors: readdirSync('/proc/self/fd').length,
    threads: readdirSync('/proc/self/task').length,
    rssMiB: Math.round(process.memoryUsage.rss() / 2 ** 20),
  };
}

/** By name, one operation each; `file` is written by all and read by some. */
export function operationsOn(vm: TestVm, file: string): Record<string, (round: number) => Promise<unknown>> {
  const saved = (options: Partial<SaveOptions>) => () =>
    save({ vm: vm.qmpPath, file, force: true, ...options });
  return {
    shared: saved({ method: 'shared', channels: 2 }),
    'shared-16': saved({ method: 'shared', channels: 16 }),
    stream: saved({ method: 'stream', channels: 2 }),
    native: saved({ method: 'native' }),
    verify: () => verify({ file, channels: 2 }),
    cancelled: (round) => cancelledAfter(vm, file, round % 60),
    load: () => loadBuiltin(file.concat('.builtin')),
    monitor: async () => await (await MonitorListener.open(file.concat('.socket'), () => {})).close(),
  };
}

async function cancelledAfter(vm: TestVm, file: string, ms: number): Promise<void> {
  const options = { vm: vm.qmpPath, file, force: true, method: 'shared', channels: 2 } as const;
  try {
    await save({ ...options, signal: AbortSignal.timeout(ms) });
  } catch (error) {
    if (!(error instanceof MapramError) && (error as Error).name !== 'TimeoutError') throw error;
  }
}

/** The builtin machine, whose processor is a thread, saved and loaded. */
async function loadBuiltin(file: string): Promise<void> {
  await using from = await BuiltinGuest.start({ size: 4 * 2 ** 20, begin: 'running' });
  await save({ vm: from, file, force: true, channels: 2 });
  await using to = await BuiltinGuest.start({ size: 4 * 2 ** 20, begin: 'incoming' });
  await restore({ file, vm: to, channels: 2 });
}

/**
 * Carries `operation` out `warmUp` times, then `count` times.
 *
 * @returns what was held before the `count` and after
 */
export async function repeated(
  operation: (round: number) => Promise<unknown>,
  warmUp: number,
  count: number,
): Promise<{ before: Held; after: Held }> {
  for (let round = 0; round < warmUp; round++) await operation(round);
  const before = held();
  for (let round = 0; round < count; round++) await operation(warmUp + round);
  return { before, after: held() };
}

/**
 * What V8 and the allocator map for each thread comes and goes, by up to a hundred and more for 28 threads, whatever the number of
 * operations. What leaked before was at least 200 in the counts of the tests.
 */
export function assertNothingLeaked({ before, after }: { before: Held; after: Held }, count: number): void {
  const figures = JSON.stringify({ before, after, count });
  assert.ok(after.mappings - before.mappings < 180 + count / 100, `mappings: ${figures}`);
  assert.ok(after.descriptors - before.descriptors <= 4, `descriptors: ${figures}`);
  assert.ok(after.threads - before.threads <= 1, `threads: ${figures}`);
  assert.ok(after.rssMiB - before.rssMiB < 64, `memory: ${figures}`);
}
