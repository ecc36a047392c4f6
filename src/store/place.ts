/**
 * Where a store lies: objects under keys, nothing else. Another kind of place is one more file in `places/`, and a row in
 * `open-place.ts`.
 */

/** A range of bytes of an object. */
export interface ByteRange {
  readonly offset: number;
  readonly length: number;
}

/** An object, as a place lists it. */
export interface ListedObject {
  readonly key: string;
  /** 0 where the place does not tell without being asked for the object. */
  readonly bytes: number;
  /** ms since 1970, where the place tells. */
  readonly modifiedAt?: number;
}

/** What the name of an object ends with that is still being written, where a place has such. No reader looks at them. */
export const PART_KEY = /\.part-[0-9a-f]{16}$/;

export interface GetOptions {
  /** Only these bytes; all of them must be there. */
  readonly range?: ByteRange;
  /** Of an object that is read whole: the most that is taken. */
  readonly maximum?: number;
  readonly signal?: AbortSignal | undefined;
}

export interface Place {
  /** As the user wrote it. */
  readonly address: string;
  /** Whether it frees by itself what no root needs (a registry does); otherwise `prune` removes packs. */
  readonly freesPacks: boolean;
  /**
   * @returns undefined where there is no such object
   * @throws MapramError `FORMAT` for an object that is shorter than asked or longer than `maximum`, `IO`
   */
  get(key: string, options?: GetOptions): Promise<Buffer | undefined>;
  /** Stores an object whole or not at all; on stable storage when this returns. Replaces. */
  put(key: string, bytes: Uint8Array, signal?: AbortSignal): Promise<void>;
  /**
   * Stores an object where there is none, in one step.
   *
   * @param packs that it needs: where roots keep packs alive, the place is given them here
   * @returns false where there is one
   */
  create(key: string, bytes: Uint8Array, packs: readonly { id: string; bytes: number }[]): Promise<boolean>;
  /** Length of an object, undefined where there is none. */
  size(key: string, signal?: AbortSignal): Promise<number | undefined>;
  /** All objects whose keys begin so. */
  list(prefix: string): Promise<ListedObject[]>;
  /** Removes an object; one that is not there is no error. */
  remove(key: string): Promise<void>;
}
