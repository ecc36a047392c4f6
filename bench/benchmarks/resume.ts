import { resume } from '../../src/snapshot/resume/resume.js';
import type { Benchmark, Contender, Goal, Sample } from '../benchmark.js';
import { LinuxSnapshot } from '../linux-snapshot.js';
import { type CacheState, setCache } from '../page-cache.js';
import { runResumeCommand } from '../resume-command.js';
import { loadNatively, type StockVm, startStopped } from '../stock-qemu.js';

const SIZES = [256, 1024, 4096, 16_384];
const QUICK_SIZES = [256, 1024];
const ADDED_SECONDS = 0.06;

type Start = (command: readonly string[], file: string) => Promise<StockVm>;

async function resumeHere(command: readonly string[], file: string): Promise<StockVm> {
  const vm = await resume({ file, command, onWarning() {} });
  return {
    pid: vm.pid,
    loadMs: vm.facts.loadTimeMs,
    [Symbol.asyncDispose]: () => vm[Symbol.asyncDispose](),
  };
}

/** Until the guest runs, and until it says something. */
async function measure(snapshot: LinuxSnapshot, cache: CacheState, start: Start): Promise<Sample> {
  await setCache(snapshot.file, cache);
  await using output = await snapshot.listen();
  const startedAt = performance.now();
  await using vm = await start(snapshot.command(output.chardev), snapshot.file);
  const seconds = (performance.now() - startedAt) / 1000;
  const firstOutput = (await output.first) - startedAt;
  return {
    seconds,
    figures: { 'load ms': vm.loadMs ?? Number.NaN, 'first output ms': firstOutput },
  };
}

async function measureStart(snapshot: LinuxSnapshot): Promise<Sample> {
  await using output = await snapshot.listen();
  const startedAt = performance.now();
  await using _ = await startStopped(snapshot.command(output.chardev));
  return { seconds: (performance.now() - startedAt) / 1000 };
}

function contendersFor(snapshot: LinuxSnapshot): Contender[] {
  const { size } = snapshot;
  const contender = (group: string, cache: CacheState, start: Start): Contender => ({
    name: `${group}, ${cache}`,
    group: cache === 'warm' ? group : `${group}, cold`,
    run: () => measure(snapshot, cache, start),
  });
  return [
    { name: `QEMU's start, ${size}`, group: `QEMU's start, ${size}`, run: () => measureStart(snapshot) },
    contender(`resume(), ${size}`, 'warm', resumeHere),
    contender(`resume(), ${size}`, 'cold', resumeHere),
    contender(`mapram resume, ${size}`, 'warm', (command, file) => runResumeCommand(file, command)),
    contender(`QEMU's load, ${size}`, 'warm', loadNatively),
    contender(`QEMU's load, ${size}`, 'cold', loadNatively),
  ];
}

function goalsFor({ size }: LinuxSnapshot): Goal[] {
  return ['resume()', 'mapram resume'].map((name) => ({
    group: `${name}, ${size}`,
    against: `QEMU's start, ${size}`,
    addsAtMost: ADDED_SECONDS,
  }));
}

export const resumeBenchmark: Benchmark = {
  name: 'resume',
  title: 'Start of a saved Linux guest',
  description:
    "Guests of 256 MiB to 16 GiB (quick: to 1 GiB; `--memory`: others), mostly empty, saved by mapram while they ran; from the start of QEMU until the guest runs, and until its first output (it counts every 100 ms). QEMU's start: the same QEMU with -S and no file, until its monitor answers. resume(): the library, in a process that has it loaded. mapram resume: the command, start of Node included. QEMU's load: mapped-ram with multifd, 2 channels, and direct-io. Warm: all non-zero pages of the file are in the page cache; cold: none.",
  async prepare({ folder, quick, memoryMiB = quick ? QUICK_SIZES : SIZES, log }) {
    const snapshots: LinuxSnapshot[] = [];
    const dispose = async () => {
      for (const snapshot of snapshots) snapshot[Symbol.dispose]();
    };
    try {
      for (const size of memoryMiB) {
        log(`resume: saving a guest of ${size} MiB`);
        snapshots.push(await LinuxSnapshot.make(folder, size));
      }
    } catch (error) {
      await dispose();
      throw error;
    }
    return {
      contenders: snapshots.flatMap(contendersFor),
      goals: snapshots.flatMap(goalsFor),
      [Symbol.asyncDispose]: dispose,
    };
  },
};
