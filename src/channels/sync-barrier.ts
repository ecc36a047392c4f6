/**
 * Where the connections of one multifd stream wait for each other.
 *
 * A page may come on one channel before a SYNC and again on another channel behind it. Only if nobody goes past a
 * SYNC before everybody has reached it, the newer copy is also the one written last.
 *
 * - `changes` grows with everything that happens here: what waiters sleep on.
 * - `arrived`: participants at the present SYNC.
 * - `generation`: SYNCs that all have passed.
 * - `left`: participants whose connection has ended.
 */
import { SharedWords } from '../threads/shared-words.js';

const WORDS = ['changes', 'arrived', 'generation', 'left', 'aborted'] as const;

/**
 * - `passed`: all are there.
 * - `deserted`: a connection has ended, so all will never be there.
 * - `aborted`: somebody gave up.
 */
export type Arrival = 'passed' | 'deserted' | 'aborted';

export class SyncBarrier {
  readonly #words: SharedWords<(typeof WORDS)[number]>;

  constructor(
    readonly participants: number,
    buffer?: SharedArrayBuffer,
  ) {
    this.#words = new SharedWords(WORDS, [], 0, buffer);
  }

  get buffer(): SharedArrayBuffer {
    return this.#words.buffer;
  }

  /** Announces that the caller has come to a SYNC, all its pages being in the file, and waits for all others. Blocks the thread. */
  arrive(): Arrival {
    const words = this.#words;
    const generation = words.get('generation');
    if (words.add('arrived', 1) + 1 === this.participants) {
      words.set('arrived', 0);
      words.add('generation', 1);
      words.raise('changes');
      return 'passed';
    }
    for (;;) {
      // Read before the words that it announces, which are stored before it is raised.
      const changes = words.get('changes');
      if (words.get('generation') !== generation) return 'passed';
      if (this.aborted) return 'aborted';
      if (words.get('left') !== 0) return 'deserted';
      words.wait('changes', changes);
    }
  }

  /** The caller's connection has ended: it will arrive at no SYNC any more. */
  leave(): void {
    this.#words.add('left', 1);
    this.#words.raise('changes');
  }

  /** Sends everybody away who waits now or later. */
  abort(): void {
    this.#words.set('aborted', 1);
    this.#words.raise('changes');
  }

  get aborted(): boolean {
    return this.#words.get('aborted') !== 0;
  }
}
