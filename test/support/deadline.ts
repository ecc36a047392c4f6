/** How long a test waits for something that normally takes far less, before it is taken for hung. */
export const patience = 120_000;

/** A condition that is looked at again whenever something happened, until it gives a value. */
export class Waiters {
  readonly #wake = new Set<() => void>();

  /** Something happened: everybody looks again. */
  notify(): void {
    for (const wake of [...this.#wake]) wake();
  }

  /**
   * The first value of `look` that is not undefined; what `look` throws is passed on.
   * `describe` words what was awaited and what was seen instead, for the error when patience runs out.
   */
  async until<T>(look: () => T | undefined, describe: () => string): Promise<T> {
    return await new Promise<T>((resolve, reject) => {
      const finish = (act: () => void): void => {
        clearTimeout(timer);
        this.#wake.delete(check);
        act();
      };
      const check = (): void => {
        try {
          const value = look();
          if (value !== undefined) finish(() => resolve(value));
        } catch (error) {
          finish(() => reject(error));
        }
      };
      const timer = setTimeout(
        () => finish(() => reject(new Error(`Waited ${patience / 1000} s for ${describe()}`))),
        patience,
      );
      this.#wake.add(check);
      check();
    });
  }
}
