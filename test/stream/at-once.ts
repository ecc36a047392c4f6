import type { SlicedWork } from '../../src/stream/slices.js';

/** The result of sliced work, and after how much of it each of its pauses came. */
export function inPauses<T>(work: SlicedWork<T>): { result: T; pauses: number[] } {
  const pauses: number[] = [];
  for (;;) {
    const step = work.next();
    if (step.done) return { result: step.value, pauses };
    pauses.push(step.value);
  }
}

/** Without any turn of the event loop. */
export function atOnce<T>(work: SlicedWork<T>): T {
  return inPauses(work).result;
}
