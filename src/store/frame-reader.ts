/** Reads frames out of packs: those that lie close together with one request, each checked before anyone sees it. */
import { CHUNK_BYTES, damaged, PARALLEL_REQUESTS, packKey } from './format.js';
import type { FrameCodec } from './frame-codec.js';
import { type FrameReference, MAXIMUM_NODE_BYTES, PageNode } from './page-node.js';
import { mapParallel } from './parallel.js';
import type { Place } from './place.js';

/** A request is not made longer than this. */
const RUN_BYTES = 4 << 20;
/** What lies between two frames is read along rather than asked for around. */
const GAP_BYTES = 64 << 10;

/** A range of one pack with the frames in it that are wanted. */
export interface PackRun<T> {
  readonly pack: string;
  readonly offset: number;
  length: number;
  readonly wanted: { readonly reference: FrameReference; readonly of: T }[];
}

/** Puts frames together that one request can bring. */
export function packRuns<T>(wanted: Iterable<{ reference: FrameReference; of: T }>): PackRun<T>[] {
  const sorted = [...wanted].sort(
    ({ reference: a }, { reference: b }) =>
      (a.pack < b.pack ? -1 : a.pack > b.pack ? 1 : 0) || a.offset - b.offset,
  );
  const runs: PackRun<T>[] = [];
  for (const one of sorted) {
    const { pack, offset, length } = one.reference;
    const run = runs.at(-1);
    const end = offset + length;
    if (
      run !== undefined &&
      run.pack === pack &&
      offset - (run.offset + run.length) <= GAP_BYTES &&
      end - run.offset <= RUN_BYTES
    ) {
      run.length = Math.max(run.length, end - run.offset);
      run.wanted.push(one);
    } else runs.push({ pack, offset, length, wanted: [one] });
  }
  return runs;
}

export class FrameReader {
  /** Requests made, for those who count them. */
  requests = 0;

  constructor(
    readonly place: Place,
    private readonly codec: FrameCodec,
    /** The snapshot, for errors. */
    readonly where: string,
    private readonly signal?: AbortSignal | undefined,
  ) {}

  /** @throws MapramError `FORMAT` for a pack that is not there or too short */
  async run({ pack, offset, length }: Pick<PackRun<unknown>, 'pack' | 'offset' | 'length'>): Promise<Buffer> {
    this.requests += 1;
    const bytes = await this.place.get(packKey(pack), { range: { offset, length }, signal: this.signal });
    if (bytes === undefined) throw damaged(this.where, `its pack ${pack} is missing`);
    return bytes;
  }

  /** Nodes in the order of their references. */
  async nodes(references: readonly FrameReference[], level: number): Promise<PageNode[]> {
    const wanted = references.map((reference, of) => ({ reference, of }));
    return await this.#decoded(
      wanted,
      (reference, frame) => {
        const bytes = this.codec.decode('node', reference.name, frame, MAXIMUM_NODE_BYTES);
        return typeof bytes === 'string' ? bytes : PageNode.decode(bytes, level);
      },
      () => `a node of level ${level}`,
    );
  }

  /** Contents of chunks in the order of their references. */
  async chunks(references: readonly FrameReference[]): Promise<Buffer[]> {
    const wanted = references.map((reference, of) => ({ reference, of }));
    return await this.#decoded(
      wanted,
      ({ name }, frame) => this.codec.decode('chunk', name, frame, CHUNK_BYTES),
      () => 'a chunk',
    );
  }

  async #decoded<R extends object>(
    wanted: { reference: FrameReference; of: number }[],
    decode: (reference: FrameReference, frame: Buffer) => R | string,
    what: () => string,
  ): Promise<R[]> {
    const results: R[] = new Array(wanted.length);
    await mapParallel(packRuns(wanted), PARALLEL_REQUESTS, async (run) => {
      const problem = await this.twice(run, (bytes) => {
        for (const { reference, of } of run.wanted) {
          const start = reference.offset - run.offset;
          const result = decode(reference, bytes.subarray(start, start + reference.length));
          if (typeof result === 'string') return result;
          results[of] = result;
        }
        return undefined;
      });
      if (problem !== undefined)
        throw damaged(this.where, `${what()} in pack ${run.pack} is damaged: ${problem}`);
    });
    return results;
  }

  /**
   * Fetches a run and lets `use` look at it; what is damaged is fetched once more, for it may have been so on the way only.
   *
   * @returns what was wrong the second time
   */
  async twice<T>(
    run: PackRun<T>,
    use: (bytes: Buffer) => string | undefined | Promise<string | undefined>,
  ): Promise<string | undefined> {
    if ((await use(await this.run(run))) === undefined) return undefined;
    return await use(await this.run(run));
  }
}
