/**
 * Collects frames into packs and uploads those that are full while more are made.
 *
 * ```text
 * 0    8   "MPRAMPK1"
 * 8   16   the push that made it: prune leaves packs of pushes that are under way alone
 * 24   8   zero
 * 32  …    frames, one behind the other
 * ```
 *
 * A pack is named by the SHA-256 of all of it. A push that is broken off and begun again makes the same packs.
 */
import { createHash } from 'node:crypto';
import { PACK_TARGET_BYTES, PARALLEL_REQUESTS, packKey } from './format.js';
import { Parallel } from './parallel.js';
import type { Place } from './place.js';

export const PACK_MAGIC = 'MPRAMPK1';
export const PACK_HEAD_BYTES = 32;

/** A pack whose name is known once it is closed. */
export interface PackHandle {
  id?: string;
}

/** Where a frame has been put. */
export interface FrameSlot {
  readonly pack: PackHandle;
  readonly offset: number;
  readonly length: number;
}

export interface PackWriterOptions {
  readonly place: Place;
  /** 32 hexadecimal digits. */
  readonly push: string;
  readonly signal?: AbortSignal | undefined;
  /** After a pack is there; `reused` when it was there before. */
  onStored(bytes: number, reused: boolean): void;
}

/** The uploads of one push, whatever writer they come from. */
export class PackUploads {
  /** Length of each pack that was stored, by its name. */
  readonly stored = new Map<string, number>();
  readonly #parallel = new Parallel(PARALLEL_REQUESTS);

  constructor(readonly options: PackWriterOptions) {}

  /** Waits while too many are under way. */
  async store(id: string, bytes: Buffer): Promise<void> {
    const { place, signal, onStored } = this.options;
    this.stored.set(id, bytes.length);
    await this.#parallel.start(async () => {
      signal?.throwIfAborted();
      const key = packKey(id);
      const reused = (await place.size(key, signal)) === bytes.length;
      if (!reused) await place.put(key, bytes, signal);
      onStored(bytes.length, reused);
    });
  }

  finish(): Promise<void> {
    return this.#parallel.finish();
  }

  settle(): Promise<void> {
    return this.#parallel.settle();
  }
}

export class PackWriter {
  #pack: PackHandle = {};
  #frames: Uint8Array[] = [];
  #length = PACK_HEAD_BYTES;

  constructor(private readonly uploads: PackUploads) {}

  /** The frame is the writer's from now on. Waits where uploads do not keep up. */
  async add(frame: Uint8Array): Promise<FrameSlot> {
    if (this.#length + frame.length > PACK_TARGET_BYTES && this.#frames.length > 0) await this.close();
    const slot = { pack: this.#pack, offset: this.#length, length: frame.length };
    this.#frames.push(frame);
    this.#length += frame.length;
    return slot;
  }

  /** Ends the pack at hand: it gets its name, and is uploaded. */
  async close(): Promise<void> {
    if (this.#frames.length === 0) return;
    const head = Buffer.alloc(PACK_HEAD_BYTES);
    head.write(PACK_MAGIC, 'latin1');
    head.write(this.uploads.options.push, 8, 'hex');
    const bytes = Buffer.concat([head, ...this.#frames], this.#length);
    const id = createHash('sha256').update(bytes).digest('hex');
    this.#pack.id = id;
    this.#pack = {};
    this.#frames = [];
    this.#length = PACK_HEAD_BYTES;
    await this.uploads.store(id, bytes);
  }
}
