/** Results as Markdown: one table a benchmark, and whether its goals are met. */
import type { BenchmarkResult, ContenderResult, Goal, Sample } from './benchmark.js';
import { median } from './statistics.js';

const seconds = ({ samples }: ContenderResult): number[] => samples.map((sample) => sample.seconds);

function typical(contender: ContenderResult, key: Exclude<keyof Sample, 'seconds'>): number | undefined {
  return median(contender.samples.flatMap((sample) => sample[key] ?? []));
}

/** The smallest median time in a group. */
function best(result: BenchmarkResult, group: string): number | undefined {
  const medians = result.contenders
    .filter((contender) => contender.group === group)
    .flatMap((contender) => median(seconds(contender)) ?? []);
  return medians.length === 0 ? undefined : Math.min(...medians);
}

const cell = (value: number | undefined, format: (value: number) => string): string =>
  value === undefined ? '' : format(value);

function row(result: BenchmarkResult, contender: ContenderResult, reference: number | undefined): string {
  const times = seconds(contender);
  const time = median(times);
  const gib = result.bytes / 2 ** 30;
  const cells = [
    contender.name,
    cell(time, (value) => value.toFixed(2)),
    `${Math.min(...times).toFixed(2)} to ${Math.max(...times).toFixed(2)}`,
    cell(time, (value) => (result.bytes / value / 1e6).toFixed(0)),
    time === undefined || reference === undefined ? '' : (time / reference).toFixed(2),
    cell(typical(contender, 'cpuSeconds'), (value) => (value / gib).toFixed(2)),
    cell(typical(contender, 'peakMemoryBytes'), (value) => (value / 2 ** 20).toFixed(0)),
    cell(typical(contender, 'cachedShare'), (value) => `${(value * 100).toFixed(1)} %`),
  ];
  return `| ${cells.join(' | ')} |`;
}

function verdict(result: BenchmarkResult, { group, against, timeAtMost }: Goal): string | undefined {
  const own = best(result, group);
  const other = best(result, against);
  if (own === undefined || other === undefined) return undefined;
  const ratio = own / other;
  return `- ${group} takes ${ratio.toFixed(2)} of the time of ${against}; goal: at most ${timeAtMost.toFixed(2)}: ${ratio <= timeAtMost ? 'met' : 'not met'}`;
}

export function markdown(
  machine: Record<string, string>,
  rounds: number,
  results: readonly BenchmarkResult[],
): string {
  const lines = [
    Object.entries(machine)
      .map(([key, value]) => `${key}: ${value}`)
      .join('; '),
  ];
  for (const result of results) {
    const reference = result.goals[0] && best(result, result.goals[0].against);
    lines.push(
      '',
      `## ${result.title}`,
      '',
      `${result.description} ${(result.bytes / 2 ** 30).toFixed(2)} GiB of data; medians of ${rounds} alternating rounds.`,
      '',
      `| | s | range | MB/s | time / ${result.goals[0]?.against ?? ''} | CPU s/GiB | memory MiB | file in page cache |`,
      '|---|---|---|---|---|---|---|---|',
      ...result.contenders.map((contender) => row(result, contender, reference)),
    );
    const verdicts = result.goals.flatMap((goal) => verdict(result, goal) ?? []);
    if (verdicts.length > 0) lines.push('', ...verdicts);
  }
  return `${lines.join('\n')}\n`;
}
