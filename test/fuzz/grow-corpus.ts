/** Finds small inputs that reach, together, all of a reader that changed inputs are found to reach. */
import { Random } from '../trust/random.js';
import { Reached } from './coverage.js';
import { mutate } from './mutate.js';

/** Larger inputs are not kept, however much they reach. */
export const MAX_INPUT_BYTES = 64 << 10;

/** Inputs that are run before it is asked what they reached: asking takes longer than most of them. */
const GROUP = 16;
/** Smaller ones of one input that are tried. */
const MOST_TRIES = 1000;

export interface GrowOptions {
  seeds: readonly Uint8Array[];
  fixedLength?: boolean | undefined;
  /** Inputs that are there whatever comes: what they and the seeds reach, no other needs to. */
  always: readonly Uint8Array[];
  /** Inputs of an earlier time, which are kept only for what no other reaches. */
  earlier: readonly Uint8Array[];
  count: number;
  seed: number;
  /** What these inputs reach together. */
  reach(inputs: readonly Uint8Array[]): Promise<Reached>;
}

/** The inputs to keep besides `always`. */
export async function growCorpus(options: GrowOptions): Promise<Uint8Array[]> {
  const { seeds, fixedLength = false, always, earlier, count, seed, reach } = options;
  const random = new Random(seed);
  const base = await reach([...seeds, ...always]);
  const known = new Reached();
  known.add(base);
  /** What only inputs that are too large reach so far: others need not be made smaller to see it again. */
  const tooFar = new Reached();
  const kept: Uint8Array[] = [];
  const keep = async (bytes: Uint8Array) => {
    kept.push(bytes);
    known.add(await reach([bytes]));
  };

  const offer = async (inputs: readonly Uint8Array[]): Promise<void> => {
    if (known.includes(await reach(inputs))) return;
    const [input] = inputs;
    if (inputs.length > 1 || input === undefined) {
      const half = inputs.length >> 1;
      await offer(inputs.slice(0, half));
      await offer(inputs.slice(half));
      return;
    }
    // A second time: code that runs but once, to fill a cache for instance, is not reached by the input.
    const wanted = (await reach([input])).without(known);
    if (wanted.size === 0 || (input.length > MAX_INPUT_BYTES && tooFar.includes(wanted))) return;
    const reachesAll = async (bytes: Uint8Array) => (await reach([bytes])).includes(wanted);
    const bytes = await minimise(input, reachesAll, fixedLength);
    if (bytes.length > MAX_INPUT_BYTES) tooFar.add(wanted);
    else await keep(bytes);
  };

  for (const bytes of earlier) await keep(bytes);
  // An input that may not become smaller, and is too large, leads to none that can be kept.
  const first = [...seeds, ...always].filter((bytes) => !fixedLength || bytes.length <= MAX_INPUT_BYTES);
  for (let done = 0; done < count; done += GROUP) {
    const all = [...first, ...kept];
    const group = Array.from({ length: Math.min(GROUP, count - done) }, (_, index) =>
      mutate(index % 2 === 0 ? first : all, random, !fixedLength),
    );
    await offer(group);
  }
  return await cover(kept, base, reach);
}

/**
 * Takes pieces out of an input, or makes them zero where it must keep its length, as long as it does what it is for: large
 * pieces first, then half as large ones, and from its end, since nothing behind the place that matters is needed.
 */
export async function minimise(
  input: Uint8Array,
  stillDoes: (bytes: Uint8Array) => Promise<boolean>,
  fixedLength: boolean,
): Promise<Uint8Array> {
  let best = input;
  let tries = 0;
  for (let changed = true; changed; ) {
    changed = false;
    for (let size = 2 ** Math.ceil(Math.log2(Math.max(1, best.length))); size >= 1; size /= 2) {
      for (let at = Math.floor(best.length / size) * size; at >= 0; at -= size) {
        const end = Math.min(at + size, best.length);
        if (at >= end || (fixedLength && best.subarray(at, end).every((byte) => byte === 0))) continue;
        if (tries++ === MOST_TRIES) return best;
        const less = fixedLength
          ? Uint8Array.from(best).fill(0, at, end)
          : Uint8Array.from([...best.subarray(0, at), ...best.subarray(end)]);
        if (!(await stillDoes(less))) continue;
        best = less;
        changed = true;
      }
    }
  }
  return best;
}

/** Those that reach together what all do beyond `base`: always the one that adds most, the smallest of equals. */
async function cover(
  inputs: readonly Uint8Array[],
  base: Reached,
  reach: GrowOptions['reach'],
): Promise<Uint8Array[]> {
  const chosen: Uint8Array[] = [];
  let left: { bytes: Uint8Array; adds: Reached }[] = [];
  for (const bytes of inputs) left.push({ bytes, adds: (await reach([bytes])).without(base) });
  for (;;) {
    left = left.filter(({ adds }) => adds.size > 0);
    left.sort((a, b) => b.adds.size - a.adds.size || a.bytes.length - b.bytes.length);
    const [best] = left;
    if (best === undefined) return chosen;
    chosen.push(best.bytes);
    left = left.map(({ bytes, adds }) => ({ bytes, adds: adds.without(best.adds) }));
  }
}
