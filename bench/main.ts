/**
 * `npm run bench -- [NAME …] [--quick] [--rounds N] [--memory MIB,…] [--dir DIR] [--output DIR] [--list]`
 *
 * Prints a Markdown report; `--output` also keeps it there as `benchmarks.md` and all samples as `benchmarks.json`.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { errorReason } from '../src/errors.js';
import { cacheFolder } from '../test/support/environment.js';
import { type Benchmark, type BenchmarkResult, runBenchmark } from './benchmark.js';
import { channelDesign } from './benchmarks/channel-design.js';
import { forkBenchmark } from './benchmarks/fork.js';
import { incrementalBenchmark } from './benchmarks/incremental.js';
import { inspectBenchmark } from './benchmarks/inspect.js';
import { restoreBenchmark } from './benchmarks/restore.js';
import { resumeBenchmark } from './benchmarks/resume.js';
import { saveMethods } from './benchmarks/save-methods.js';
import { saveStopped } from './benchmarks/save-stopped.js';
import { saveStream } from './benchmarks/save-stream.js';
import { storeBenchmark } from './benchmarks/store.js';
import { verifyBenchmark } from './benchmarks/verify.js';
import { describeMachine } from './machine.js';
import { markdown } from './report.js';

const benchmarks: readonly Benchmark[] = [
  saveStopped,
  saveStream,
  saveMethods,
  restoreBenchmark,
  resumeBenchmark,
  forkBenchmark,
  verifyBenchmark,
  inspectBenchmark,
  incrementalBenchmark,
  storeBenchmark,
  channelDesign,
];

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    quick: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    dir: { type: 'string', default: path.join(cacheFolder, '..', 'bench') },
    output: { type: 'string' },
    list: { type: 'boolean', default: false },
    memory: { type: 'string' },
  },
});

function wantedBenchmarks(): readonly Benchmark[] {
  if (positionals.length === 0) return benchmarks;
  return positionals.map((name) => {
    const found = benchmarks.find((benchmark) => benchmark.name === name);
    if (found === undefined) throw new Error(`There is no benchmark ${name}; --list shows them.`);
    return found;
  });
}

/** Node reads these at each start, which took 27 ms where it was looked at; mapram needs none of them. */
delete process.env.NODE_EXTRA_CA_CERTS;

async function main(): Promise<void> {
  if (values.list) {
    for (const { name, title } of benchmarks) console.log(`${name.padEnd(20)} ${title}`);
    return;
  }
  const rounds = Number(values.rounds ?? (values.quick ? 3 : 7));
  if (!Number.isInteger(rounds) || rounds < 1) throw new Error('--rounds needs a positive number.');
  const memoryMiB = values.memory?.split(',').map(Number);
  if (memoryMiB?.some((size) => !Number.isInteger(size) || size < 1))
    throw new Error('--memory needs sizes in MiB.');
  const folder = path.resolve(values.dir);
  mkdirSync(folder, { recursive: true });
  const log = (message: string): void => console.error(message);
  const machine = describeMachine(folder);
  const results: BenchmarkResult[] = [];
  for (const benchmark of wantedBenchmarks()) {
    try {
      const settings = { folder, rounds, quick: values.quick, log };
      results.push(await runBenchmark(benchmark, memoryMiB ? { ...settings, memoryMiB } : settings));
    } catch (error) {
      // The others are worth having all the same.
      console.error(`${benchmark.name}: ${errorReason(error)}`);
      process.exitCode = 1;
    }
    if (values.output !== undefined) keep(values.output, { machine, rounds, results });
  }
  console.log(markdown(machine, rounds, results));
}

/** What is there so far, so that a run that is broken off leaves something. */
function keep(
  folder: string,
  {
    machine,
    rounds,
    results,
  }: { machine: Record<string, string>; rounds: number; results: BenchmarkResult[] },
): void {
  mkdirSync(folder, { recursive: true });
  writeFileSync(path.join(folder, 'benchmarks.md'), markdown(machine, rounds, results));
  writeFileSync(
    path.join(folder, 'benchmarks.json'),
    `${JSON.stringify({ machine, rounds, quick: values.quick, results }, null, 2)}\n`,
  );
}

try {
  await main();
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
