import type { Metric, MetricSample } from '../metrics/exposition.js';
import type { OperationEntry } from './operations.js';
import { OPERATION_KINDS } from './requests.js';

const ENDS = ['done', 'failed', 'cancelled'] as const;
type End = (typeof ENDS)[number];

interface Tally {
  readonly ended: Record<End, number>;
  /** Of those that were done. */
  bytes: { direct: number; buffered: number };
  pages: number;
  seconds: number;
}

/** What results of operations have in common, as far as they have it. */
interface Result {
  readonly directIo?: boolean;
  readonly normalBytes?: number;
  readonly normalPages?: number;
  readonly checkedBytes?: number;
}

/** Counts the operations begun from the page, for Prometheus. */
export class OperationMetrics {
  readonly #tallies = new Map<string, Tally>(
    OPERATION_KINDS.map((kind) => [
      kind,
      {
        ended: { done: 0, failed: 0, cancelled: 0 },
        bytes: { direct: 0, buffered: 0 },
        pages: 0,
        seconds: 0,
      },
    ]),
  );

  /** To be called with each operation that has ended. */
  count({ kind, state, elapsedMs, result }: OperationEntry): void {
    const tally = this.#tallies.get(kind);
    const end = ENDS.find((name) => name === state);
    if (tally === undefined || end === undefined) return;
    tally.ended[end] += 1;
    if (end !== 'done') return;
    const { directIo = false, normalBytes, checkedBytes, normalPages = 0 } = result as Result;
    tally.bytes[directIo ? 'direct' : 'buffered'] += normalBytes ?? checkedBytes ?? 0;
    tally.pages += normalPages;
    tally.seconds += elapsedMs / 1000;
  }

  /** What there is to tell now. `entries`: the operations in the list, whether they have ended or not. */
  collect(entries: readonly OperationEntry[]): Metric[] {
    const running = entries.filter(({ state }) => state === 'running' || state === 'cancelling');
    const each = (samples: (tally: Tally, kind: string) => MetricSample[]): MetricSample[] =>
      [...this.#tallies].flatMap(([kind, tally]) => samples(tally, kind));
    const ofRunning = (kind: string, value: (entry: OperationEntry) => number) => ({
      labels: { kind },
      value: running.filter((entry) => entry.kind === kind).reduce((sum, entry) => sum + value(entry), 0),
    });
    return [
      {
        name: 'mapram_operations_total',
        type: 'counter',
        help: 'Operations that have ended, by kind and how.',
        samples: each(({ ended }, kind) =>
          ENDS.map((result) => ({ labels: { kind, result }, value: ended[result] })),
        ),
      },
      {
        name: 'mapram_operation_bytes_total',
        type: 'counter',
        help: 'Bytes of memory moved or checked by operations that were done, past the page cache or through it.',
        samples: each(({ bytes }, kind) =>
          (['direct', 'buffered'] as const).map((io) => ({ labels: { kind, io }, value: bytes[io] })),
        ),
      },
      {
        name: 'mapram_operation_pages_total',
        type: 'counter',
        help: 'Pages with contents moved by operations that were done.',
        samples: each(({ pages }, kind) => [{ labels: { kind }, value: pages }]),
      },
      {
        name: 'mapram_operation_seconds_total',
        type: 'counter',
        help: 'Time that operations took that were done.',
        samples: each(({ seconds }, kind) => [{ labels: { kind }, value: seconds }]),
      },
      {
        name: 'mapram_operations_running',
        type: 'gauge',
        help: 'Operations under way.',
        samples: each((_, kind) => [ofRunning(kind, () => 1)]),
      },
      {
        name: 'mapram_operation_rate_bytes',
        type: 'gauge',
        help: 'Bytes a second of the operations under way.',
        samples: each((_, kind) => [ofRunning(kind, ({ progress }) => progress?.rate ?? 0)]),
      },
    ];
  }
}
