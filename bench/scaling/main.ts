/**
 * `npm run bench:scaling -- [STUDY …] [--quick] [--rounds N] [--dir DIR] [--tmpfs DIR] [--output DIR]`
 *
 * How the time of the channels depends on one thing at a time: their number, the size of RAM, its share of zero pages, the bytes
 * written at once; and, on a target in memory where no disk is the limit, what the processors can do. Prints tables;
 * `--output` keeps them with an SVG for each study.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { cacheFolder } from '../../test/support/environment.js';
import { saveByChannels } from '../channel-save.js';
import { describeMachine } from '../machine.js';
import { median } from '../statistics.js';
import { MIB, StripedMemory } from '../striped-memory.js';
import { type Chart, lineChart } from './line-chart.js';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    quick: { type: 'boolean', default: false },
    rounds: { type: 'string', default: '3' },
    dir: { type: 'string', default: path.join(cacheFolder, '..', 'bench') },
    tmpfs: { type: 'string', default: '/dev/shm' },
    output: { type: 'string' },
  },
});

const CHANNELS = 2;
const MEMORY_MIB = values.quick ? 512 : 2048;
const ZERO_PERCENT = 25;

/** One setting: its place in the chart, and how long a run takes with it. */
interface Setting {
  series: string;
  x: number;
  /** What is drawn of the seconds. */
  y(seconds: number): number;
  run(): Promise<number>;
}

interface Study {
  name: string;
  chart: Omit<Chart, 'series'>;
  settings(): Setting[] & Partial<Disposable>;
}

const rate = (memory: StripedMemory) => (seconds: number) => memory.dataBytes / seconds / 1e9;

/** Settings over one memory, which is given back with them. */
function over(memories: readonly StripedMemory[], settings: Setting[]): Setting[] & Disposable {
  return Object.assign(settings, {
    [Symbol.dispose]: () => {
      for (const memory of memories) memory[Symbol.dispose]();
    },
  });
}

const studies: readonly Study[] = [
  {
    name: 'channels',
    chart: {
      title: `Rate against channels (${MEMORY_MIB / 1024} GiB, a quarter of it zero)`,
      xLabel: 'channels',
      yLabel: 'GB of data a second, synced',
      logX: true,
    },
    settings() {
      const memory = StripedMemory.make(MEMORY_MIB, ZERO_PERCENT);
      return over(
        [memory],
        [true, false].flatMap((checksums) =>
          [1, 2, 3, 4, 8, 16].map((channels) => ({
            series: checksums ? 'with checksums' : 'without',
            x: channels,
            y: rate(memory),
            run: () =>
              saveByChannels({
                memory,
                folder: values.dir,
                channels,
                checksums: checksums ? 'xxh64' : 'none',
              }),
          })),
        ),
      );
    },
  },
  {
    name: 'memory',
    chart: {
      title: 'Time against the size of RAM (a quarter of it zero)',
      xLabel: 'GiB of RAM',
      yLabel: 'seconds, synced',
    },
    settings() {
      const sizes = values.quick ? [256, 512, 1024] : [256, 1024, 2048, 4096, 8192];
      // One memory for all: smaller guests are its beginning.
      const memory = StripedMemory.make(sizes.at(-1) ?? 0, ZERO_PERCENT);
      const part = (mib: number) =>
        Object.assign(Object.create(StripedMemory.prototype) as StripedMemory, {
          fd: memory.fd,
          length: mib * MIB,
          dataBytes: (mib * MIB * (100 - ZERO_PERCENT)) / 100,
        });
      return over(
        [memory],
        sizes.map((mib) => ({
          series: `${CHANNELS} channels`,
          x: mib / 1024,
          y: (seconds) => seconds,
          run: () => saveByChannels({ memory: part(mib), folder: values.dir, channels: CHANNELS }),
        })),
      );
    },
  },
  {
    name: 'zero-pages',
    chart: {
      title: `Time against the share of zero pages (${MEMORY_MIB / 1024} GiB)`,
      xLabel: 'per cent of zero pages',
      yLabel: 'seconds, synced',
    },
    settings() {
      const shares = [0, 25, 50, 75, 90, 99];
      const memories = shares.map((share) => StripedMemory.make(MEMORY_MIB, share));
      return over(
        memories,
        memories.map((memory, index) => ({
          series: `${CHANNELS} channels`,
          x: shares[index] ?? 0,
          y: (seconds) => seconds,
          run: () => saveByChannels({ memory, folder: values.dir, channels: CHANNELS }),
        })),
      );
    },
  },
  {
    name: 'io-size',
    chart: {
      title: `Rate against the bytes written at once (${MEMORY_MIB / 1024} GiB, none of it zero)`,
      xLabel: 'KiB',
      yLabel: 'GB of data a second, synced',
      logX: true,
    },
    settings() {
      const memory = StripedMemory.make(MEMORY_MIB, 0);
      return over(
        [memory],
        [2, 4].flatMap((channels) =>
          [128, 512, 1024, 4096, 16_384].map((kib) => ({
            series: `${channels} channels`,
            x: kib,
            y: rate(memory),
            // Checksums would make the chunks larger than this.
            run: () =>
              saveByChannels({ memory, folder: values.dir, channels, ioSize: kib * 1024, checksums: 'none' }),
          })),
        ),
      );
    },
  },
  {
    name: 'processors',
    chart: {
      title: `Rate into memory (tmpfs), where no disk is the limit (${MEMORY_MIB / 1024} GiB, a quarter of it zero)`,
      xLabel: 'channels',
      yLabel: 'GB of data a second',
    },
    settings() {
      const memory = StripedMemory.make(MEMORY_MIB, ZERO_PERCENT);
      return over(
        [memory],
        [true, false].flatMap((checksums) =>
          [1, 2, 3, 4].map((channels) => ({
            series: checksums ? 'with checksums' : 'without',
            x: channels,
            y: rate(memory),
            run: () =>
              saveByChannels({
                memory,
                folder: values.tmpfs,
                channels,
                checksums: checksums ? 'xxh64' : 'none',
              }),
          })),
        ),
      );
    },
  },
];

async function measure(study: Study, rounds: number): Promise<Chart> {
  const settings = study.settings();
  try {
    const times = settings.map((): number[] => []);
    for (let round = 0; round < rounds; round++) {
      for (let turn = 0; turn < settings.length; turn++) {
        // Each round begins elsewhere, so that drift of the machine meets all alike.
        const index = (turn + round * 3) % settings.length;
        const { series, x, run } = settings[index] as Setting;
        const seconds = await run();
        times[index]?.push(seconds);
        console.error(`${study.name}: round ${round + 1}, ${series}, ${x}: ${seconds.toFixed(2)} s`);
      }
    }
    const names = [...new Set(settings.map(({ series }) => series))];
    return {
      ...study.chart,
      series: names.map((name) => ({
        name,
        points: settings.flatMap(({ series, x, y }, index) =>
          series === name ? [{ x, y: y(median(times[index] ?? []) ?? 0) }] : [],
        ),
      })),
    };
  } finally {
    settings[Symbol.dispose]?.();
  }
}

function table({ title, xLabel, yLabel, series }: Chart): string {
  const xs = series[0]?.points.map(({ x }) => x) ?? [];
  const row = (cells: readonly (string | number)[]) => `| ${cells.join(' | ')} |`;
  return [
    `### ${title}`,
    '',
    row([`${yLabel}, by ${xLabel}`, ...xs]),
    row(['---', ...xs.map(() => '---')]),
    ...series.map(({ name, points }) => row([name, ...points.map(({ y }) => y.toFixed(2))])),
    '',
  ].join('\n');
}

const wanted = studies.filter(({ name }) => positionals.length === 0 || positionals.includes(name));
if (wanted.length === 0)
  throw new Error(`There are these studies: ${studies.map(({ name }) => name).join(', ')}.`);
mkdirSync(values.dir, { recursive: true });
const rounds = Number(values.rounds);
const machine = Object.entries(describeMachine(values.dir))
  .map(([key, value]) => `${key}: ${value}`)
  .join('; ');
const report = [`${machine}; medians of ${rounds} rounds`, ''];
for (const study of wanted) {
  const chart = await measure(study, rounds);
  report.push(table(chart));
  if (values.output === undefined) continue;
  mkdirSync(values.output, { recursive: true });
  writeFileSync(path.join(values.output, `${study.name}.svg`), lineChart(chart));
  writeFileSync(path.join(values.output, 'scaling.md'), report.join('\n'));
}
console.log(report.join('\n'));
