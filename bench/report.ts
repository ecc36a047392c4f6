/** Results as Markdown: one table a benchmark, and whether its goals are met. */
import type { BenchmarkResult, ContenderResult, Goal } from './benchmark.js';
import { median } from './statistics.js';

const seconds = ({ samples }: ContenderResult): number[] => samples.map((sample) => sample.seconds);

type Measure = 'cpuSeconds' | 'peakMemoryBytes' | 'cachedShare';

function typical(contender: ContenderResult, key: Measure): number | undefined {
  return median(contender.samples.flatMap((sample) => sample[key] ?? []));
}

/** The smallest median time in a group. */
function best(result: BenchmarkResult, group: string): number | undefined {
  const medians = result.contenders
    .filter((contender) => contender.group === group)
    .flatMap((contender) => median(seconds(contender)) ?? []);
  return medians.length === 0 ? undefined : Math.min(...medians);
}

/** A column of the table. One that is empty for every contender is left out. */
interface Column {
  heading: string;
  cell(contender: ContenderResult): string;
}

const cell = (value: number | undefined, format: (value: number) => string): string =>
  value === undefined || Number.isNaN(value) ? '' : format(value);

/** Times of a second and more in hundredths, shorter ones in thousandths. */
const inSeconds = (value: number): string => value.toFixed(value < 1 ? 3 : 2);

function columns(result: BenchmarkResult): Column[] {
  const { bytes, contenders, goals } = result;
  const [first] = goals;
  const reference = first && 'timeAtMost' in first ? best(result, first.against) : undefined;
  const time = (contender: ContenderResult) => median(seconds(contender));
  const figures = new Set(
    contenders.flatMap(({ samples }) => samples.flatMap((sample) => Object.keys(sample.figures ?? {}))),
  );
  const all: Column[] = [
    { heading: '', cell: ({ name }) => name },
    { heading: 's', cell: (contender) => cell(time(contender), inSeconds) },
    {
      heading: 'range',
      cell: (contender) => {
        const times = seconds(contender);
        return `${inSeconds(Math.min(...times))} to ${inSeconds(Math.max(...times))}`;
      },
    },
    {
      heading: 'MB/s',
      cell: (contender) =>
        bytes === undefined ? '' : cell(time(contender), (value) => (bytes / value / 1e6).toFixed(0)),
    },
    {
      heading: `time / ${first?.against}`,
      cell: (contender) =>
        reference === undefined ? '' : cell(time(contender), (value) => (value / reference).toFixed(2)),
    },
    {
      heading: 'CPU s/GiB',
      cell: (contender) =>
        bytes === undefined
          ? ''
          : cell(typical(contender, 'cpuSeconds'), (value) => ((value / bytes) * 2 ** 30).toFixed(2)),
    },
    {
      heading: 'memory MiB',
      cell: (contender) =>
        cell(typical(contender, 'peakMemoryBytes'), (value) => (value / 2 ** 20).toFixed(0)),
    },
    {
      heading: 'file in page cache',
      cell: (contender) =>
        cell(typical(contender, 'cachedShare'), (value) => `${(value * 100).toFixed(1)} %`),
    },
    ...[...figures].map((heading) => ({
      heading,
      cell: ({ samples }: ContenderResult) =>
        cell(median(samples.flatMap((sample) => sample.figures?.[heading] ?? [])), (value) =>
          value.toFixed(value < 100 ? 1 : 0).replace(/\.0$/, ''),
        ),
    })),
  ];
  return all.filter((column) => contenders.some((contender) => column.cell(contender) !== ''));
}

const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;

function verdict(result: BenchmarkResult, goal: Goal): string | undefined {
  const { group, against } = goal;
  const own = best(result, group);
  const other = best(result, against);
  if (own === undefined || other === undefined) return undefined;
  if ('timeAtMost' in goal) {
    const ratio = own / other;
    return `- ${group} takes ${ratio.toFixed(2)} of the time of ${against}; goal: at most ${goal.timeAtMost.toFixed(2)}: ${ratio <= goal.timeAtMost ? 'met' : 'not met'}`;
  }
  const added = (own - other) * 1000;
  const most = goal.addsAtMost * 1000;
  return `- ${group} takes ${added.toFixed(0)} ms more than ${against}; goal: at most ${most.toFixed(0)} ms: ${added <= most ? 'met' : 'not met'}`;
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
    const { title, description, bytes, contenders, goals } = result;
    const data = bytes === undefined ? '' : ` ${(bytes / 2 ** 30).toFixed(2)} GiB of data;`;
    const shown = columns(result);
    lines.push(
      '',
      `## ${title}`,
      '',
      `${description}${data} ${data === '' ? 'Medians' : 'medians'} of ${rounds} alternating rounds.`,
      '',
      line(shown.map(({ heading }) => heading)),
      line(shown.map(() => '---')),
      ...contenders.map((contender) => line(shown.map((column) => column.cell(contender)))),
    );
    const verdicts = goals.flatMap((goal) => verdict(result, goal) ?? []);
    if (verdicts.length > 0) lines.push('', ...verdicts);
  }
  return `${lines.join('\n')}\n`;
}
