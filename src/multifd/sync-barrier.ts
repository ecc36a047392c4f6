/**
 * Where the connections of one multifd stream wait for each other.
 *
 * A page may come on one channel before a SYNC and again on another channel behind it. Only if nobody goes past a
 * SYNC before everybody has reached it, the newer copy is also the one written last.
 *
 * ```
 * int32  changes       grows with everything that happens here: what waiters sleep on
 * int32  arrived       participants at the present SYNC
 * int32  generation    SYNCs that all have passed
 * int32  left          participants whose connection has ended
 * int32  aborted
 * ```
 */
const WORDS = { changes: 0, arrived: 1, generation: 2, left: 3, aborted: 4 } as const;

/**
 * - `passed`: all are there.
 * - `deserted`: a connection has ended, so all will never be there.
 * - `aborted`: somebody gave up.
 */
export type Arrival = 'passed' | 'deserted' | 'aborted';

export class SyncBarrier {
  readonly #words: Int32Array;

  constructor(
    readonly buffer: SharedArrayBuffer,
    readonly participants: number,
  ) {
    this.#words = new Int32Array(buffer);
  }

  static create(participants: number): SyncBarrier {
    const words = Object.keys(WORDS).length;
    return new SyncBarrier(new SharedArrayBuffer(words * Int32Array.BYTES_PER_ELEMENT), participants);
  }

  /** Announces that the caller has come to a SYNC, all its pages being in the file, and waits for all others. Blocks the thread. */
  arrive(): Arrival {
    const words = this.#words;
    const generation = Atomics.load(words, WORDS.generation);
    if (Atomics.add(words, WORDS.arrived, 1) + 1 === this.participants) {
      Atomics.store(words, WORDS.arrived, 0);
      Atomics.add(words, WORDS.generation, 1);
      this.#changed();
      return 'passed';
    }
    for (;;) {
      const changes = Atomics.load(words, WORDS.changes);
      if (Atomics.load(words, WORDS.generation) !== generation) return 'passed';
      if (Atomics.load(words, WORDS.aborted) !== 0) return 'aborted';
      if (Atomics.load(words, WORDS.left) !== 0) return 'deserted';
      Atomics.wait(words, WORDS.changes, changes);
    }
  }

  /** The caller's connection has ended: it will arrive at no SYNC any more. */
  leave(): void {
    Atomics.add(this.#words, WORDS.left, 1);
    this.#changed();
  }

  /** Sends everybody away who waits now or later. */
  abort(): void {
    Atomics.store(this.#words, WORDS.aborted, 1);
    this.#changed();
  }

  get aborted(): boolean {
    return Atomics.load(this.#words, WORDS.aborted) !== 0;
  }

  #changed(): void {
    Atomics.add(this.#words, WORDS.changes, 1);
    Atomics.notify(this.#words, WORDS.changes);
  }
}
