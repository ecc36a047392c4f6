import type { Bytes, BytesPerSecond, Count, Milliseconds } from './units.js';

/** How far a long operation has come. Given often; a consumer that is slow may drop all but the newest. */
export interface ProgressEvent {
  /** What is going on now, in one or two words: `ram`, `devices`, `checksums`, … */
  readonly phase: string;
  /** Bytes done and to be done in this phase. `totalBytes` is 0 where it is not known. */
  readonly bytes: Bytes;
  readonly totalBytes: Bytes;
  /** Pages done in this phase. */
  readonly pages: Count;
  /** Bytes a second, over the last second or so. */
  readonly rate: BytesPerSecond;
  readonly remainingMs?: Milliseconds;
  readonly channels?: readonly ChannelProgress[];
}

/** The share of one channel. */
export interface ChannelProgress {
  readonly id: Count;
  readonly bytes: Bytes;
  /** Bytes a second. */
  readonly rate: BytesPerSecond;
}

/** What every long operation takes. */
export interface OperationOptions {
  /** Cancels: everything is put back, and the promise rejects with `CANCELLED`. */
  readonly signal?: AbortSignal | undefined;
  /** Called several times a second. An error that it throws cancels the operation. */
  readonly onProgress?: ((event: ProgressEvent) => void) | undefined;
}
