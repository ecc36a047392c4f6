/** What the stream receiver and its worker tell each other. */
import type { StreamConfiguration } from '../stream/configuration.js';
import type { PagePlace } from './source.js';

export interface ReceiverWorkerData {
  /** A blocking socket, or any descriptor that read(2) blocks on. The worker closes nothing. */
  socket: number;
  /** Named in errors. */
  name: string;
  shared: SharedArrayBuffer;
}

/** Words of `ReceiverWorkerData.shared`, each a BigInt64. */
export const RECEIVER_COUNTERS = ['bytes', 'normalPages', 'duplicatePages', 'streamBytes'] as const;

export type FromReceiver =
  | { type: 'ready' }
  /** The stream up to the RAM block list. The worker now waits for `place`. */
  | {
      type: 'start';
      configuration: StreamConfiguration;
      pageSize: number;
      ramSectionId: number;
      blocks: { idstr: string; usedLength: number }[];
      early: boolean;
    }
  /** Everything behind RAM, up to the end of the stream. All pages are placed. */
  | { type: 'tail'; tail: Uint8Array; switchoverStart: boolean }
  | { type: 'error'; code: string; message: string };

export interface ToReceiver {
  type: 'place';
  place: PagePlace;
  /** A byte for each block, set to 1 when a record for it arrives. */
  touched: SharedArrayBuffer;
}
