/**
 * what the channels of one set share: a word to stop, the next chunk to take, their bandwidth, and counters.
 *
 * ```
 * int32  stop          1: take no more work, end the present call and report
 * int32  nextChunk     index of the chunk that the next idle channel takes (Atomics.add)
 * 24 bytes             a `Bandwidth`
 * int64  counters[channel][COUNTERS.length]
 * ```
 */
import { Bandwidth } from './bandwidth.js';

const WORDS = { stop: 0, nextChunk: 1 } as const;
const BANDWIDTH_AT = 8;
const COUNTERS_AT = BANDWIDTH_AT + Bandwidth.BYTES;

/** Totals of one channel since it was opened. */
export const COUNTERS = ['bytes', 'normalPages', 'duplicatePages', 'punchedPages', 'busy'] as const;
export type Counter = (typeof COUNTERS)[number];

export type ChannelCounters = Record<Counter, number>;

export class ChannelState {
  readonly bandwidth: Bandwidth;
  readonly #words: Int32Array;
  readonly #counters: BigInt64Array;

  constructor(
    readonly buffer: SharedArrayBuffer,
    readonly channels: number,
  ) {
    this.#words = new Int32Array(buffer, 0, 2);
    this.bandwidth = new Bandwidth(buffer, BANDWIDTH_AT);
    this.#counters = new BigInt64Array(buffer, COUNTERS_AT, channels * COUNTERS.length);
  }

  static create(channels: number): ChannelState {
    const bytes = COUNTERS_AT + channels * COUNTERS.length * BigInt64Array.BYTES_PER_ELEMENT;
    return new ChannelState(new SharedArrayBuffer(bytes), channels);
  }

  get stopped(): boolean {
    return Atomics.load(this.#words, WORDS.stop) !== 0;
  }

  set stopped(value: boolean) {
    Atomics.store(this.#words, WORDS.stop, value ? 1 : 0);
    if (value) this.bandwidth.wake();
  }

  /** Waits as the bandwidth demands for `bytes` that were written, or until the channels are stopped. */
  spend(bytes: number): void {
    this.bandwidth.spend(bytes, () => this.stopped);
  }

  /** Before a pass: the first chunk is the next one to take. */
  rewind(): void {
    Atomics.store(this.#words, WORDS.nextChunk, 0);
  }

  /** The index of a chunk that nobody else gets. */
  takeChunk(): number {
    return Atomics.add(this.#words, WORDS.nextChunk, 1);
  }

  add(channel: number, counter: Counter, amount: number): void {
    if (amount === 0) return;
    Atomics.add(this.#counters, channel * COUNTERS.length + COUNTERS.indexOf(counter), BigInt(amount));
  }

  counters(channel: number): ChannelCounters {
    const base = channel * COUNTERS.length;
    return Object.fromEntries(
      COUNTERS.map((counter, index) => [counter, Number(Atomics.load(this.#counters, base + index))]),
    ) as ChannelCounters;
  }

  /** The sums over all channels. */
  totals(): ChannelCounters {
    const totals = Object.fromEntries(COUNTERS.map((counter) => [counter, 0])) as ChannelCounters;
    for (let channel = 0; channel < this.channels; channel++) {
      for (const [counter, value] of Object.entries(this.counters(channel))) {
        totals[counter as Counter] += value;
      }
    }
    return totals;
  }
}
