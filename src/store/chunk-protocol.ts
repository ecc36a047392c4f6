/** What is said between a push or pull and the threads that encode and decode chunks. Buffers are handed over, not copied. */
import type { StoreKeys } from './store-keys.js';

export interface ChunkThreadData {
  readonly keys?: StoreKeys;
}

/** Reads chunks of a file and makes frames of those that are new. */
export interface EncodeJob {
  readonly kind: 'encode';
  readonly fd: number;
  readonly fileBytes: number;
  /** Numbers of chunks, ascending. */
  readonly chunks: readonly number[];
  /** For each the name of the parent's chunk at the same place, one behind the other; zeros where it has none. */
  readonly parents: Uint8Array;
}

export const CHUNK_STATE = { zero: 0, asParent: 1, stored: 2 } as const;

export interface EncodedChunks {
  /** `CHUNK_STATE` of each. */
  readonly states: Uint8Array;
  /** Of those that are stored, in order, one behind the other. */
  readonly names: Uint8Array;
  readonly lengths: readonly number[];
  readonly frames: Uint8Array;
}

/** Decodes frames, checks what they hold, and writes it into a file. */
export interface DecodeJob {
  readonly kind: 'decode';
  /** -1 where nothing is written: only checked. */
  readonly fd: number;
  readonly fileBytes: number;
  /** A range of a pack. */
  readonly bytes: Uint8Array;
  readonly frames: readonly FramePlace[];
}

/** A frame within the bytes of a job. */
export interface FramePlace {
  readonly chunk: number;
  readonly name: Uint8Array;
  readonly start: number;
  readonly length: number;
}

/** The first frame that is not sound. */
export interface DecodedChunks {
  readonly damage?: { readonly chunk: number; readonly what: string };
}

export type ChunkJob = EncodeJob | DecodeJob;
export type ChunkRequest = ChunkJob | { readonly kind: 'close' };

export type ChunkReply =
  | { readonly kind: 'done'; readonly result: EncodedChunks | DecodedChunks }
  /** `details` are those of a system error. */
  | { readonly kind: 'failed'; readonly message: string; readonly code?: string; readonly offset?: number };
