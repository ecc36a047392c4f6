import { defined } from './defined.js';
import type { ProgressEvent } from './progress.js';

/** Cumulative counters since the start. */
interface Counters {
  bytes: number;
  totalBytes: number;
  pages: number;
  channels: readonly { id: number; bytes: number }[];
}

/** Turns cumulative counters into reports with rates. One meter a migration; call `report` at the pace of the display. */
export class ProgressMeter {
  #at: number;
  #bytes = 0;
  #rate = 0;
  #channels = new Map<number, number>();
  readonly #now: () => number;

  /** @param now monotonic clock in ms, replaceable in tests */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
    this.#at = now();
  }

  report(phase: string, counters: Counters): ProgressEvent {
    const at = this.#now();
    const seconds = Math.max((at - this.#at) / 1000, 1e-3);
    const perSecond = (now: number, before: number) => Math.max(0, Math.round((now - before) / seconds));
    // Two thirds old, one third new: steady enough to read, quick enough to show a stall within a second.
    const fresh = perSecond(counters.bytes, this.#bytes);
    this.#rate = this.#rate === 0 ? fresh : Math.round((2 * this.#rate + fresh) / 3);
    const channels = counters.channels.map(({ id, bytes }) => ({
      id,
      bytes,
      rate: perSecond(bytes, this.#channels.get(id) ?? 0),
    }));
    this.#at = at;
    this.#bytes = counters.bytes;
    this.#channels = new Map(counters.channels.map(({ id, bytes }) => [id, bytes]));
    const left = counters.totalBytes - counters.bytes;
    return {
      phase,
      bytes: counters.bytes,
      totalBytes: counters.totalBytes,
      pages: counters.pages,
      rate: this.#rate,
      channels,
      ...defined({
        remainingMs: this.#rate > 0 && left >= 0 ? Math.round((left / this.#rate) * 1000) : undefined,
      }),
    };
  }
}
