/** How far a long operation has come. Given often; a consumer that is slow may drop all but the newest. */
export interface ProgressEvent {
  /** What is going on now, in one or two words: `ram`, `devices`, `checksums`, … */
  readonly phase: string;
  /** Bytes done and to be done in this phase. `totalBytes` is 0 where it is not known. */
  readonly bytes: number;
  readonly totalBytes: number;
  /** Pages done in this phase. */
  readonly pages: number;
  /** Bytes a second, over the last second or so. */
  readonly rate: number;
  readonly remainingMs?: number;
  readonly channels?: readonly ChannelProgress[];
}

/** The share of one channel. */
export interface ChannelProgress {
  readonly id: number;
  readonly bytes: number;
  /** Bytes a second. */
  readonly rate: number;
}
