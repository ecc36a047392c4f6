/**
 * A push that is under way says so in the store, before it relies on anything that is there: `pushes/PUSH.ATTEMPT`. Prune leaves alone what
 * a claim names, and packs whose head names its push. `pushes/prune.ID` says that a prune is under way.
 *
 * In which order, so that nothing which a push relies on is removed:
 *
 * ```text
 * push                                             prune
 *  1  writes its claim, with the parent's packs     1  says that it is under way
 *  2  looks whether a prune is under way: then it   2  removes the roots that are to go
 *     makes packs that no earlier push has made     3  lists packs
 *  3  looks whether the parent's root is there      4  reads claims
 *  4  uploads packs                                 5  reads roots
 *  5  writes its root                               6  removes packs that neither needs
 *  6  removes its claim                             7  says that it is through
 * ```
 *
 * A push whose step 3 comes before prune's step 2 has its claim read in step 4; one whose step 3 comes later finds the parent gone. An
 * early pack of a push that was broken off is used again only if step 2 found no prune: each later prune reads the claim.
 */
import { createHash, randomBytes } from 'node:crypto';
import * as v from 'valibot';
import { MapramError } from '../errors.js';
import { CLAIM_KEY, claimKey, damaged, MAXIMUM_CLAIM_BYTES, MAXIMUM_PACKS, rootKey } from './format.js';
import type { Place } from './place.js';
import type { SnapshotRoot } from './snapshot-root.js';
import { parseJson } from './store-config.js';

const ClaimSchema = v.strictObject({
  /** ISO 8601, UTC. */
  createdAt: v.pipe(v.string(), v.isoTimestamp()),
  /** What is pushed. */
  name: v.string(),
  /** Packs of the parent. */
  packs: v.pipe(v.array(v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/))), v.maxLength(MAXIMUM_PACKS)),
});

export type Claim = v.InferOutput<typeof ClaimSchema>;

const PRUNE_KEY = /^pushes\/prune\.[0-9a-f]{16}$/;

/** A claim that this process has made. */
export class PushClaim {
  private constructor(
    private readonly place: Place,
    /** 32 hexadecimal digits, which all packs of the push carry. */
    readonly push: string,
    private readonly attempt: string,
  ) {}

  /**
   * Steps 1 to 3.
   *
   * @param what tells one push from another: the same file, name and parent make the same packs
   * @throws MapramError `BUSY` when the parent was removed meanwhile
   */
  static async make(
    place: Place,
    name: string,
    parent: SnapshotRoot | undefined,
    what: readonly unknown[],
  ): Promise<PushClaim> {
    const push = createHash('sha256').update(JSON.stringify(what)).digest('hex').slice(0, 32);
    const attempt = randomBytes(8).toString('hex');
    if (place.freesPacks) return new PushClaim(place, push, attempt);
    const packs = parent?.packs.map(({ id }) => id) ?? [];
    const text = JSON.stringify({ createdAt: new Date().toISOString(), name, packs } satisfies Claim);
    const write = async (id: string) => {
      await place.put(claimKey(id, attempt), Buffer.from(text));
      return new PushClaim(place, id, attempt);
    };
    let claim = await write(push);
    if ((await place.list('pushes/')).some(({ key }) => PRUNE_KEY.test(key))) {
      await claim.release();
      claim = await write(randomBytes(16).toString('hex'));
    }
    if (parent !== undefined && (await place.size(rootKey(parent.name, parent.id))) === undefined) {
      await claim.release();
      throw new MapramError(
        'BUSY',
        `pushing to ${place.address}/${name}: ${parent.name}@${parent.id}, which it was to build upon, was removed meanwhile; push again`,
        { path: place.address },
      );
    }
    return claim;
  }

  /** @throws MapramError `BUSY` when the claim is gone: a prune took the push for one that was given up */
  async assertHeld(): Promise<void> {
    if (this.place.freesPacks || (await this.place.size(claimKey(this.push, this.attempt))) !== undefined)
      return;
    throw new MapramError(
      'BUSY',
      `pushing to ${this.place.address}: a prune has taken this push for one that was given up, since it took so long; push again`,
      { path: this.place.address },
    );
  }

  async release(): Promise<void> {
    if (!this.place.freesPacks) await this.place.remove(claimKey(this.push, this.attempt));
  }
}

/** Claims of all pushes. */
export interface HeldClaims {
  /** Packs of parents. */
  readonly packs: ReadonlySet<string>;
  /** Pushes, as the heads of their packs name them. */
  readonly pushes: ReadonlySet<string>;
}

/**
 * Reads the claims, and removes those that are older than `expiryMs`.
 *
 * @throws MapramError `FORMAT` for a claim that cannot be read: what it protects is then not known
 */
export async function readClaims(place: Place, expiryMs: number, dryRun: boolean): Promise<HeldClaims> {
  const packs = new Set<string>();
  const pushes = new Set<string>();
  for (const { key } of await place.list('pushes/')) {
    const [, push] = CLAIM_KEY.exec(key) ?? [];
    if (push === undefined) continue;
    const where = `${place.address}/${key}`;
    const bytes = await place.get(key, { maximum: MAXIMUM_CLAIM_BYTES });
    // Its push has ended since.
    if (bytes === undefined) continue;
    const result = v.safeParse(ClaimSchema, parseJson(bytes, where));
    if (!result.success) throw damaged(where, 'it is no claim; remove it if no push is under way');
    if (Date.now() - Date.parse(result.output.createdAt) > expiryMs) {
      if (!dryRun) await place.remove(key);
      continue;
    }
    pushes.add(push);
    for (const pack of result.output.packs) packs.add(pack);
  }
  return { packs, pushes };
}

/** Says that a prune is under way until it is disposed of. */
export async function announcePrune(place: Place): Promise<AsyncDisposable> {
  const key = `pushes/prune.${randomBytes(8).toString('hex')}`;
  await place.put(key, Buffer.from('{}'));
  return { [Symbol.asyncDispose]: () => place.remove(key) };
}
