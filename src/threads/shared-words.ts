/**
 * Named numbers in memory that threads share: some that all of them have in common, and a row of them for each thread.
 *
 * ```
 * int64  words[…]                    common to all
 * int64  counters[thread][…]         a row a thread
 * ```
 *
 * Every access is atomic, and atomic accesses have one order that all threads agree on. Who stores what others wait for and
 * then changes the word that they sleep on, in this order, is never missed: a thread that read the old word before it looked
 * does not fall asleep on the new one.
 */
export class SharedWords<Word extends string, Counter extends string = never> {
  readonly #words: BigInt64Array;
  readonly #names: readonly string[];
  readonly #counters: readonly string[];

  /** @param threads how many rows of `counters` there are */
  constructor(
    names: readonly Word[],
    counters: readonly Counter[] = [],
    readonly threads = 0,
    /** Of the same words in another thread; fresh zeros by default. */
    readonly buffer = new SharedArrayBuffer(8 * (names.length + threads * counters.length)),
  ) {
    this.#names = names;
    this.#counters = counters;
    this.#words = new BigInt64Array(buffer);
  }

  get(word: Word): number {
    return Number(Atomics.load(this.#words, this.#names.indexOf(word)));
  }

  set(word: Word, value: number): void {
    Atomics.store(this.#words, this.#names.indexOf(word), BigInt(value));
  }

  /** Returns what it was before. */
  add(word: Word, amount: number): number {
    return Number(Atomics.add(this.#words, this.#names.indexOf(word), BigInt(amount)));
  }

  /** Sets the word if it still is `expected`. Returns whether it was. */
  exchange(word: Word, expected: number, value: number): boolean {
    const before = BigInt(expected);
    const index = this.#names.indexOf(word);
    return Atomics.compareExchange(this.#words, index, before, BigInt(value)) === before;
  }

  /** Blocks the thread until the word is changed, unless it is not `expected` any more. */
  wait(word: Word, expected: number, timeoutMs = Number.POSITIVE_INFINITY): void {
    Atomics.wait(this.#words, this.#names.indexOf(word), BigInt(expected), timeoutMs);
  }

  /** Wakes all that wait for the word to change. Follows the change. */
  notify(word: Word): void {
    Atomics.notify(this.#words, this.#names.indexOf(word));
  }

  /** Raises a word that is there to be waited for, and wakes those that do. */
  raise(word: Word): void {
    this.add(word, 1);
    this.notify(word);
  }

  count(thread: number, counter: Counter, amount: number): void {
    if (amount !== 0) Atomics.add(this.#words, this.#at(thread, counter), BigInt(amount));
  }

  setCounter(thread: number, counter: Counter, value: number): void {
    Atomics.store(this.#words, this.#at(thread, counter), BigInt(value));
  }

  counter(thread: number, counter: Counter): number {
    return Number(Atomics.load(this.#words, this.#at(thread, counter)));
  }

  /** The row of one thread. */
  counters(thread: number): Record<Counter, number> {
    return rowOf(this.#counters, (counter) => this.counter(thread, counter as Counter));
  }

  total(counter: Counter): number {
    let total = 0;
    for (let thread = 0; thread < this.threads; thread++) total += this.counter(thread, counter);
    return total;
  }

  /** The sums over all threads. */
  totals(): Record<Counter, number> {
    return rowOf(this.#counters, (counter) => this.total(counter as Counter));
  }

  #at(thread: number, counter: Counter): number {
    return this.#names.length + thread * this.#counters.length + this.#counters.indexOf(counter);
  }
}

function rowOf<Counter extends string>(
  counters: readonly string[],
  pick: (counter: string) => number,
): Record<Counter, number> {
  return Object.fromEntries(counters.map((counter) => [counter, pick(counter)])) as Record<Counter, number>;
}
