import { readFileSync } from 'node:fs';
import os from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { fork } from '../../src/snapshot/resume/fork.js';
import type { Benchmark, Sample } from '../benchmark.js';
import { LinuxSnapshot } from '../linux-snapshot.js';
import { setCache } from '../page-cache.js';
import { loadNatively, type StockVm } from '../stock-qemu.js';

const CLONES = 32;
const QUICK_CLONES = 8;
const MEMORY_MIB = 512;
/** Of a QEMU itself: its program, its translated code, its threads. */
const OVERHEAD_BYTES = 192 * 2 ** 20;
/** Guests touch some of their memory right after they start. */
const SETTLING_MS = 2000;
/** As many as `fork` starts at the same time. */
const STARTING_AT_ONCE = 2 * os.availableParallelism();

/** As many clones as fit into memory even if each has its own copy of everything. */
function clonesThatFit(snapshot: LinuxSnapshot, wanted: number): number {
  const available = /^MemAvailable: +(\d+) kB$/m.exec(readFileSync('/proc/meminfo', 'latin1'))?.[1];
  const fitting = (Number(available) * 1024 * 0.8) / (snapshot.dataBytes + OVERHEAD_BYTES);
  return Math.max(1, Math.min(wanted, Math.floor(fitting)));
}

/** Memory a clone on average, in MiB: what is its own, what others have mapped too, and its share of everything. */
function memoryFigures(pids: readonly number[]): Record<string, number> {
  const total = { private: 0, shared: 0, proportional: 0 };
  for (const pid of pids) {
    const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1');
    const mib = (name: string) => Number(new RegExp(`^${name}: +(\\d+) kB$`, 'm').exec(rollup)?.[1]) / 1024;
    total.private += mib('Private_Clean') + mib('Private_Dirty');
    total.shared += mib('Shared_Clean') + mib('Shared_Dirty');
    total.proportional += mib('Pss');
  }
  return {
    clones: pids.length,
    'private MiB a clone': total.private / pids.length,
    'shared MiB a clone': total.shared / pids.length,
    'all clones MiB': total.proportional,
  };
}

async function sampleOf(startedAt: number, pids: readonly number[]): Promise<Sample> {
  const seconds = (performance.now() - startedAt) / 1000;
  await sleep(SETTLING_MS);
  return { seconds, figures: memoryFigures(pids) };
}

async function forked({ file }: LinuxSnapshot, command: readonly string[], count: number): Promise<Sample> {
  await setCache(file, 'warm');
  const startedAt = performance.now();
  await using clones = await fork({ file, count, command, prefetch: 'none', onWarning() {} });
  const pids = clones.vms.map(({ pid }) => pid);
  return await sampleOf(startedAt, pids);
}

async function loaded({ file }: LinuxSnapshot, command: readonly string[], count: number): Promise<Sample> {
  await setCache(file, 'warm');
  const vms: StockVm[] = [];
  const startedAt = performance.now();
  let begun = 0;
  const loadSome = async () => {
    while (begun < count) {
      begun += 1;
      vms.push(await loadNatively(command, file));
    }
  };
  try {
    await Promise.all(Array.from({ length: Math.min(count, STARTING_AT_ONCE) }, loadSome));
    const pids = vms.map(({ pid }) => pid);
    return await sampleOf(startedAt, pids);
  } finally {
    for (const vm of vms) await vm[Symbol.asyncDispose]();
  }
}

/** Only what clones can have in common: no monitor of a name of its own, a serial port that goes nowhere. */
function commandForMany(snapshot: LinuxSnapshot): string[] {
  const words = snapshot.command('null,id=serial');
  const isMonitor = (word = '') => /^(socket,id=(test-)?qmp,|chardev=(test-)?qmp,)/.test(word);
  return words.filter((word, index) => !isMonitor(word) && !isMonitor(words[index + 1]));
}

export const forkBenchmark: Benchmark = {
  name: 'fork',
  title: 'Many clones of a saved Linux guest',
  description:
    "32 clones (quick: 8; fewer where they do not fit into memory) of a guest of 512 MiB, saved by mapram while it ran; from the call until all run, as many starting at once in both ways. QEMU's load: mapped-ram with multifd, 2 channels, and direct-io. Memory by /proc/PID/smaps_rollup, 2 s later, while the guests run.",
  async prepare({ folder, quick }) {
    const snapshot = await LinuxSnapshot.make(folder, MEMORY_MIB);
    const count = clonesThatFit(snapshot, quick ? QUICK_CLONES : CLONES);
    const command = commandForMany(snapshot);
    return {
      contenders: [
        { name: 'mapram fork', group: 'fork', run: () => forked(snapshot, command, count) },
        { name: "QEMU's load, each", group: 'loads', run: () => loaded(snapshot, command, count) },
      ],
      goals: [],
      [Symbol.asyncDispose]: async () => snapshot[Symbol.dispose](),
    };
  },
};
