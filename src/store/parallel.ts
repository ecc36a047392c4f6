/** Many things at once, but not all: what keeps requests and memory within bounds. */

/** At most `limit` of the tasks that it is given run at once. The first that fails makes all later calls fail. */
export class Parallel {
  readonly #running = new Set<Promise<void>>();
  #failure: { error: unknown } | undefined;

  constructor(private readonly limit: number) {}

  /** Waits for room, then begins `task` and returns. @throws what an earlier task has thrown */
  async start(task: () => Promise<void>): Promise<void> {
    while (this.#running.size >= this.limit) await Promise.race(this.#running);
    this.#throwFailure();
    const running = task()
      .catch((error: unknown) => {
        this.#failure ??= { error };
      })
      .finally(() => this.#running.delete(running));
    this.#running.add(running);
  }

  /** Waits for all tasks. @throws what one of them has thrown */
  async finish(): Promise<void> {
    await this.settle();
    this.#throwFailure();
  }

  /** Waits until none runs any more, however they end. */
  async settle(): Promise<void> {
    await Promise.all(this.#running);
  }

  #throwFailure(): void {
    if (this.#failure !== undefined) throw this.#failure.error;
  }
}

/** Results in the order of `items`, at most `limit` at once. */
export async function mapParallel<T, R>(
  items: readonly T[],
  limit: number,
  task: (item: T) => Promise<R>,
): Promise<R[]> {
  const results: R[] = new Array(items.length);
  const parallel = new Parallel(limit);
  try {
    for (const [index, item] of items.entries()) {
      await parallel.start(async () => {
        results[index] = await task(item);
      });
    }
  } finally {
    await parallel.settle();
  }
  await parallel.finish();
  return results;
}
