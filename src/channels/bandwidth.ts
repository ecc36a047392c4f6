/**
 * How many bytes a second all channels of a set may write together.
 *
 * - `bytesPerSecond`: 0 for as many as the disk takes.
 * - `paidUntil`: when what was written so far has had its time, in ns of the clock of the process.
 * - `limits`: raised, and those that wait are woken, when waiting may have lost its purpose.
 */
import type { SharedWords } from '../threads/shared-words.js';

export const BANDWIDTH_WORDS = ['bytesPerSecond', 'paidUntil', 'limits'] as const;

const NS_PER_SECOND = 1e9;
const NS_PER_MS = 1e6;

/** Time without writing counts for this long: the window in which QEMU, too, lets a migration spend its bandwidth. */
const WINDOW_NS = 1e8;

export class Bandwidth {
  constructor(private readonly words: SharedWords<(typeof BANDWIDTH_WORDS)[number]>) {}

  /** Bytes a second; 0 for no limit. */
  get limit(): number {
    return this.words.get('bytesPerSecond');
  }

  /** Takes effect at once, also for those that wait by the former limit. */
  set limit(bytesPerSecond: number) {
    this.words.set('bytesPerSecond', Math.min(Math.floor(bytesPerSecond), Number.MAX_SAFE_INTEGER));
    this.words.set('paidUntil', 0);
    this.wake();
  }

  /**
   * Waits until the time of `bytes` that were just written, and of all written before by whomever, is over. Blocks the
   * thread, but not once `isStopped`: whoever stops the channels calls `wake` afterwards.
   */
  spend(bytes: number, isStopped: () => boolean): void {
    // Read first: a change after this ends the wait before it begins.
    const limits = this.words.get('limits');
    if (isStopped()) return;
    const rate = this.limit;
    if (rate === 0 || bytes === 0) return;
    const now = Number(process.hrtime.bigint());
    const until = this.#pay(now - WINDOW_NS, (bytes * NS_PER_SECOND) / rate);
    if (until > now) this.words.wait('limits', limits, (until - now) / NS_PER_MS);
  }

  /** Ends all waiting. */
  wake(): void {
    this.words.raise('limits');
  }

  #pay(earliest: number, cost: number): number {
    for (;;) {
      const before = this.words.get('paidUntil');
      const until = Math.ceil(Math.max(before, earliest) + cost);
      if (this.words.exchange('paidUntil', before, until)) return until;
    }
  }
}
