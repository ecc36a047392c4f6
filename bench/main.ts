/**
 * `npm run bench -- [NAME …] [--quick] [--rounds N] [--dir DIR] [--output DIR] [--list]`
 *
 * Prints a Markdown report; `--output` also keeps it there as `benchmarks.md` and all samples as `benchmarks.json`.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { cacheFolder } from '../test/support/environment.js';
import { type Benchmark, type BenchmarkResult, runBenchmark } from './benchmark.js';
import { forkBenchmark } from './benchmarks/fork.js';
import { resumeBenchmark } from './benchmarks/resume.js';
import { saveStopped } from './benchmarks/save-stopped.js';
import { saveStream } from './benchmarks/save-stream.js';
import { describeMachine } from './machine.js';
import { markdown } from './report.js';

const benchmarks: readonly Benchmark[] = [saveStopped, saveStream, resumeBenchmark, forkBenchmark];

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    quick: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    dir: { type: 'string', default: path.join(cacheFolder, '..', 'bench') },
    output: { type: 'string' },
    list: { type: 'boolean', default: false },
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

async function main(): Promise<void> {
  if (values.list) {
    for (const { name, title } of benchmarks) console.log(`${name.padEnd(20)} ${title}`);
    return;
  }
  const rounds = Number(values.rounds ?? (values.quick ? 3 : 5));
  if (!Number.isInteger(rounds) || rounds < 1) throw new Error('--rounds needs a positive number.');
  const folder = path.resolve(values.dir);
  mkdirSync(folder, { recursive: true });
  const log = (message: string): void => console.error(message);
  const machine = describeMachine(folder);
  const results: BenchmarkResult[] = [];
  for (const benchmark of wantedBenchmarks())
    results.push(await runBenchmark(benchmark, { folder, rounds, quick: values.quick, log }));
  const report = markdown(machine, rounds, results);
  console.log(report);
  if (values.output !== undefined) {
    mkdirSync(values.output, { recursive: true });
    writeFileSync(path.join(values.output, 'benchmarks.md'), report);
    writeFileSync(
      path.join(values.output, 'benchmarks.json'),
      `${JSON.stringify({ machine, rounds, quick: values.quick, results }, null, 2)}\n`,
    );
  }
}

try {
  await main();
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
