/** A benchmark lets several contenders do the same work in turn, so that drift of the machine meets all of them alike. */

export interface Settings {
  /** Where files are written: the disk that is measured. */
  folder: string;
  rounds: number;
  /** A smaller guest, for a look instead of a figure. */
  quick: boolean;
  /** Sizes of guests, for a benchmark that compares several. */
  memoryMiB?: readonly number[];
  /** Says what is going on. */
  log(message: string): void;
}

/** What one run of a contender took. */
export interface Sample {
  seconds: number;
  /** User and system time of every process that took part. */
  cpuSeconds?: number;
  /** Largest private memory of mapram's own process. */
  peakMemoryBytes?: number;
  /** Part of the file that is in the page cache afterwards, 0 to 1. */
  cachedShare?: number;
  /** Whatever else there is to tell, by the heading of its column, unit included. NaN where it does not apply. */
  figures?: Readonly<Record<string, number>>;
}

export interface Contender {
  name: string;
  /** Contenders of one group are ways of doing it with the same program; goals look at the best of a group. */
  group: string;
  run(): Promise<Sample>;
}

/** What is demanded of a group of contenders. Figures are medians; of a group, that of the contender whose time is the best. */
export type Goal = { group: string } & (
  | { against: string /** As a part of the other's time. */; timeAtMost: number }
  | { against: string /** Seconds more than the other. */; addsAtMost: number }
  | { against: string /** As a part of the other's processor time. */; cpuAtMost: number }
  | {
      against: string /** Of `Sample.figures`, as a part of the other's. */;
      figure: string;
      figureAtMost: number;
    }
  | { /** Seconds. */ secondsAtMost: number }
  | { /** Bytes. */ memoryAtMost: number }
  | { /** Part of the file, 0 to 1. */ cachedAtMost: number }
);

export interface PreparedBenchmark extends AsyncDisposable {
  contenders: readonly Contender[];
  /** Bytes of data that every run moves, for rates, where that is what a run is about. */
  bytes?: number;
  /** Those that depend on what was prepared. */
  goals?: readonly Goal[];
}

export interface Benchmark {
  /** As it is called on the command line. */
  name: string;
  title: string;
  /** What every contender does, and what is inside the measured time. */
  description: string;
  goals?: readonly Goal[];
  prepare(settings: Settings): Promise<PreparedBenchmark>;
}

export interface ContenderResult {
  name: string;
  group: string;
  samples: readonly Sample[];
}

export interface BenchmarkResult {
  name: string;
  title: string;
  description: string;
  bytes?: number;
  goals: readonly Goal[];
  contenders: readonly ContenderResult[];
}

/** Runs every contender once a round; each round starts with another one. */
export async function runBenchmark(benchmark: Benchmark, settings: Settings): Promise<BenchmarkResult> {
  const { name, title, description } = benchmark;
  settings.log(`${name}: preparing`);
  await using prepared = await benchmark.prepare(settings);
  const { contenders, bytes } = prepared;
  const samples = new Map<Contender, Sample[]>(contenders.map((contender) => [contender, []]));
  for (let round = 0; round < settings.rounds; round++) {
    for (let turn = 0; turn < contenders.length; turn++) {
      const contender = contenders[(round + turn) % contenders.length] as Contender;
      const sample = await contender.run();
      samples.get(contender)?.push(sample);
      settings.log(
        `${name}: round ${round + 1} of ${settings.rounds}, ${contender.name}: ${sample.seconds.toFixed(3)} s`,
      );
    }
  }
  return {
    name,
    title,
    description,
    ...(bytes === undefined ? {} : { bytes }),
    goals: [...(benchmark.goals ?? []), ...(prepared.goals ?? [])],
    contenders: contenders.map((contender) => ({
      name: contender.name,
      group: contender.group,
      samples: samples.get(contender) ?? [],
    })),
  };
}
