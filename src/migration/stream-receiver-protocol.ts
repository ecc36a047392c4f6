/** What the stream receiver and its threads, one a connection, tell each other. */
import type { PagePlace } from '../multifd/page-placer.js';
import type { StreamConfiguration } from '../stream/configuration.js';
import type { SectionOpening } from '../stream/stream-writer.js';

export interface ReceiverWorkerData {
  /** Number of the connection, in the order in which they were accepted. */
  connection: number;
  /** Named in errors. */
  name: string;
  /** Of a `ConnectionState`, for all connections. */
  state: SharedArrayBuffer;
  /** Of a `SyncBarrier` that all connections share. */
  barrier: SharedArrayBuffer;
  connections: number;
}

export type FromReceiver =
  /** The main channel: configuration, RAM, device state. */
  | { type: 'main' }
  /** A multifd channel with what its initial packet says. It now waits for `place`. */
  | { type: 'channel'; channel: number; uuid: Uint8Array }
  /** The stream up to the RAM block list. The main channel now waits for `place`. */
  | {
      type: 'start';
      configuration: StreamConfiguration;
      pageSize: number;
      ramSectionId: number;
      blocks: { idstr: string; usedLength: number }[];
      /** Sections before RAM in stream format, empty where there are none. */
      earlySections: Uint8Array;
    }
  /** Everything behind RAM, up to the end of the stream. All pages of the main channel are placed. */
  | {
      type: 'tail';
      tail: Uint8Array;
      switchoverStart: boolean;
      /** As `splitTail` wants them. */
      started: SectionOpening[];
      footers: boolean;
    }
  /** A multifd channel has ended as it should. */
  | { type: 'done' }
  /** Gave up because another connection did, or because it was told to. */
  | { type: 'aborted' }
  | { type: 'error'; code: string; message: string; offset?: number };

export type ToReceiver =
  /** The first message: a socket, the end of a pipe, or a file at its place. The worker closes nothing. */
  | { type: 'connected'; socket: number }
  /** Where pages go. Without a connection before it: there will be none. */
  | PlaceMessage;

export interface PlaceMessage {
  type: 'place';
  place: PagePlace;
  pageSize: number;
  /** A byte for each block, set to 1 when the main channel brings a record for it. */
  touched: SharedArrayBuffer;
}
