/**
 * How many bytes a second all channels of a set may write together.
 *
 * ```
 * int64  bytesPerSecond   0: as many as the disk takes
 * int64  paidUntil        when what was written so far has had its time, in ns of the clock of the process
 * int32  changes          raised, and those that wait are woken, when waiting may have lost its purpose
 * ```
 */
const LONGS = { bytesPerSecond: 0, paidUntil: 1 } as const;
const WORDS_AT = 16;
const NS_PER_SECOND = 1_000_000_000n;
const NS_PER_MS = 1e6;

/** Time without writing counts for this long: the window in which QEMU, too, lets a migration spend its bandwidth. */
const WINDOW_NS = 100_000_000n;

export class Bandwidth {
  /** Size of the memory that it needs; a multiple of 8. */
  static readonly BYTES = WORDS_AT + 8;

  readonly #longs: BigInt64Array;
  readonly #words: Int32Array;

  /** @param offset where its `BYTES` begin in `buffer`; a multiple of 8 */
  constructor(buffer: SharedArrayBuffer, offset: number) {
    this.#longs = new BigInt64Array(buffer, offset, 2);
    this.#words = new Int32Array(buffer, offset + WORDS_AT, 1);
  }

  /** Bytes a second; 0 for no limit. */
  get limit(): number {
    return Number(Atomics.load(this.#longs, LONGS.bytesPerSecond));
  }

  /** Takes effect at once, also for those that wait by the former limit. */
  set limit(bytesPerSecond: number) {
    const capped = BigInt(Math.min(Math.floor(bytesPerSecond), Number.MAX_SAFE_INTEGER));
    Atomics.store(this.#longs, LONGS.bytesPerSecond, capped);
    Atomics.store(this.#longs, LONGS.paidUntil, 0n);
    this.wake();
  }

  /**
   * Waits until the time of `bytes` that were just written, and of all written before by whomever, is over. Blocks the
   * thread, but not once `isStopped`: whoever stops the channels calls `wake` afterwards.
   */
  spend(bytes: number, isStopped: () => boolean): void {
    const changes = Atomics.load(this.#words, 0);
    if (isStopped()) return;
    const rate = Atomics.load(this.#longs, LONGS.bytesPerSecond);
    if (rate === 0n || bytes === 0) return;
    const cost = (BigInt(bytes) * NS_PER_SECOND) / rate;
    const now = process.hrtime.bigint();
    const until = this.#pay(now - WINDOW_NS, cost);
    if (until > now) Atomics.wait(this.#words, 0, changes, Number(until - now) / NS_PER_MS);
  }

  /** Ends all waiting. */
  wake(): void {
    Atomics.add(this.#words, 0, 1);
    Atomics.notify(this.#words, 0);
  }

  #pay(earliest: bigint, cost: bigint): bigint {
    for (;;) {
      const before = Atomics.load(this.#longs, LONGS.paidUntil);
      const until = (before > earliest ? before : earliest) + cost;
      if (Atomics.compareExchange(this.#longs, LONGS.paidUntil, before, until) === before) return until;
    }
  }
}
