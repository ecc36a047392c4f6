/**
 * Values pushed on one side and read as an async iterator on the other.
 *
 * Invariant: once `end` or `fail` was called, a reader gets what is still queued and then the end or the error; no
 * reader waits for ever.
 */
export class EventQueue<T> implements AsyncIterableIterator<T> {
  readonly #values: T[] = [];
  readonly #limit: number;
  readonly #onReturn: () => void;
  #waiting: { resolve: (result: IteratorResult<T>) => void; reject: (error: unknown) => void }[] = [];
  #ended: { error?: unknown } | undefined;

  /** @param limit most values that wait for a reader; the queue fails beyond */
  constructor(limit: number, onReturn: () => void = () => {}) {
    this.#limit = limit;
    this.#onReturn = onReturn;
  }

  push(value: T): void {
    if (this.#ended) return;
    const reader = this.#waiting.shift();
    if (reader) {
      reader.resolve({ value, done: false });
    } else if (this.#values.length >= this.#limit) {
      this.fail(new Error(`more than ${this.#limit} events were left unread`));
    } else {
      this.#values.push(value);
    }
  }

  end(): void {
    this.#finish({});
  }

  fail(error: unknown): void {
    this.#finish({ error });
  }

  next(): Promise<IteratorResult<T>> {
    const value = this.#values.shift();
    if (value !== undefined) return Promise.resolve({ value, done: false });
    if (this.#ended) return this.#settled(this.#ended);
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  return(): Promise<IteratorResult<T>> {
    this.#values.length = 0;
    this.end();
    this.#onReturn();
    return Promise.resolve({ value: undefined, done: true });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #finish(ended: { error?: unknown }): void {
    if (this.#ended) return;
    this.#ended = ended;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const { resolve, reject } of waiting) this.#settled(ended).then(resolve, reject);
  }

  #settled({ error }: { error?: unknown }): Promise<IteratorResult<T>> {
    return error === undefined
      ? Promise.resolve({ value: undefined, done: true })
      : Promise.reject(error as Error);
  }
}
