/** Long work on one thread that lets the event loop serve others in between. */

/** Characters or bytes that are read at once: a millisecond or so. */
export const SLICE_LENGTH = 2 ** 16;

/** Work that pauses again and again, each time with how many characters or bytes it has read since the last pause. */
export type SlicedWork<T> = Generator<number, T, void>;

/** Does the work to its end; the event loop turns in each of its pauses. */
export async function inSlices<T>(work: SlicedWork<T>): Promise<T> {
  for (;;) {
    const step = work.next();
    if (step.done) return step.value;
    await new Promise<void>((resolve) => setImmediate(resolve));
  }
}
