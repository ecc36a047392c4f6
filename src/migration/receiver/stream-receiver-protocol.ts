/**
 * What the stream receiver asks of its threads, one a connection:
 *
 * ```
 *                   connect ──► Identity ┬ main:    start ──► StreamStart, then receive ──► StreamTail
 *                                        └ channel: receive ──► nothing
 * ```
 *
 * A thread that gives up because another one did, or was told to, fails with `CANCELLED`.
 */
import type { PagePlace } from '../../channels/page-placer.js';
import type { SectionOpening } from '../../stream/stream-writer.js';

export type ReceiverRequest =
  /** Finds out from the first bytes which connection it is. */
  | { kind: 'connect'; setup: ReceiverSetup }
  /** Main channel: reads the stream up to its RAM block list. */
  | { kind: 'start' }
  /** Reads to the end of the connection; all its pages are then placed. */
  | ({ kind: 'receive' } & PageTarget);

export interface ReceiverSetup {
  /** Number of the connection, in the order in which they were accepted. */
  connection: number;
  /** A socket, the end of a pipe, or a file at its place. The worker closes nothing. */
  socket: number;
  /** Named in errors. */
  name: string;
  /** Of a `ConnectionState`, for all connections. */
  state: SharedArrayBuffer;
  /** Of a `SyncBarrier` that all connections share. */
  barrier: SharedArrayBuffer;
  connections: number;
  /** Whether the sender is told by the return path, as its device state comes, that loading failed. */
  refuse: boolean;
}

/** Where pages go. */
export interface PageTarget {
  place: PagePlace;
  pageSize: number;
  /** A byte for each block, set to 1 when the main channel brings a record for it. */
  touched: SharedArrayBuffer;
}

/** The main channel has configuration, RAM and device state; a multifd channel says its number and whom it is for. */
export type Identity = { role: 'main' } | { role: number; uuid: Uint8Array };

/** Everything behind RAM, up to the end of the stream. */
export interface StreamTail {
  /** Sections of other devices that came between the list of RAM blocks and RAM's END, in stream format. */
  amongRam: Uint8Array;
  /** The devices that are saved in rounds like RAM, by idstr. */
  devicesInRounds: string[];
  tail: Uint8Array;
  switchoverStart: boolean;
  /** As `splitTail` wants them. */
  started: SectionOpening[];
  footers: boolean;
}
