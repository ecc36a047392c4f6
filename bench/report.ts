/** Results as Markdown: one table a benchmark, and whether its goals are met. */
import type { BenchmarkResult, ContenderResult, Goal } from './benchmark.js';
import { median } from './statistics.js';

const seconds = ({ samples }: ContenderResult): number[] => samples.map((sample) => sample.seconds);

type Measure = 'cpuSeconds' | 'peakMemoryBytes' | 'cachedShare';

function typical(contender: ContenderResult, key: Measure): number | undefined {
  return median(contender.samples.flatMap((sample) => sample[key] ?? []));
}

/** The contender of a group whose median time is the smallest. */
function fastest(result: BenchmarkResult, group: string): ContenderResult | undefined {
  const time = (contender: ContenderResult) => median(seconds(contender)) ?? Number.POSITIVE_INFINITY;
  return result.contenders
    .filter((contender) => contender.group === group && contender.samples.length > 0)
    .sort((one, other) => time(one) - time(other))[0];
}

/** The smallest median time in a group. */
function best(result: BenchmarkResult, group: string): number | undefined {
  const contender = fastest(result, group);
  return contender && median(seconds(contender));
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
      heading: `time / ${first && 'against' in first ? first.against : ''}`,
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

/** A figure beside its limit, in words. */
interface Judged {
  what: string;
  value: number | undefined;
  atMost: number;
  text(value: number): string;
}

const asRatio = (value: number): string => value.toFixed(2);
const asMs = (value: number): string => `${(value * 1000).toFixed(0)} ms`;
const asMib = (value: number): string => `${(value / 2 ** 20).toFixed(0)} MiB`;
const asPercent = (value: number): string => `${(value * 100).toFixed(1)} %`;

const ratio = (one: number | undefined, other: number | undefined): number | undefined =>
  one === undefined || other === undefined ? undefined : one / other;

function judge(result: BenchmarkResult, goal: Goal): Judged {
  const { group } = goal;
  const own = best(result, group);
  const figure = (of: string, key: Measure) => {
    const contender = fastest(result, of);
    return contender && typical(contender, key);
  };
  if ('timeAtMost' in goal) {
    const what = `the time of ${goal.against}`;
    return { what, value: ratio(own, best(result, goal.against)), atMost: goal.timeAtMost, text: asRatio };
  }
  if ('addsAtMost' in goal) {
    const other = best(result, goal.against);
    const value = own === undefined || other === undefined ? undefined : own - other;
    return { what: `more than ${goal.against}`, value, atMost: goal.addsAtMost, text: asMs };
  }
  if ('cpuAtMost' in goal) {
    const value = ratio(figure(group, 'cpuSeconds'), figure(goal.against, 'cpuSeconds'));
    return { what: `the processor time of ${goal.against}`, value, atMost: goal.cpuAtMost, text: asRatio };
  }
  if ('figureAtMost' in goal) {
    const typicalFigure = (of: string) =>
      median((fastest(result, of)?.samples ?? []).flatMap((sample) => sample.figures?.[goal.figure] ?? []));
    const value = ratio(typicalFigure(group), typicalFigure(goal.against));
    return { what: `the ${goal.figure} of ${goal.against}`, value, atMost: goal.figureAtMost, text: asRatio };
  }
  if ('secondsAtMost' in goal) return { what: 'in all', value: own, atMost: goal.secondsAtMost, text: asMs };
  if ('memoryAtMost' in goal) {
    const value = figure(group, 'peakMemoryBytes');
    return { what: 'private memory', value, atMost: goal.memoryAtMost, text: asMib };
  }
  const value = figure(group, 'cachedShare');
  return { what: 'of the file in the page cache', value, atMost: goal.cachedAtMost, text: asPercent };
}

function verdict(result: BenchmarkResult, goal: Goal): string | undefined {
  const { what, value, atMost, text } = judge(result, goal);
  if (value === undefined || Number.isNaN(value)) return undefined;
  return `- ${goal.group}: ${text(value)} ${what}; goal: at most ${text(atMost)}: ${value <= atMost ? 'met' : 'not met'}`;
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
