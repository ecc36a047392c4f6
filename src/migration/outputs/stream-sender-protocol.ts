/** What the stream sender and its threads, one a connection, say to each other: one request, which sends all. */
import type { PlacedBlock } from '../../channels/page-placer.js';
import type { StreamParts, SyncMarks } from './stream-of-image.js';

export interface SendRequest {
  connection: number;
  /** A blocking socket. The worker closes nothing. */
  socket: number;
  /** The file whose pages are sent, and the same open, to be opened anew. */
  path: string;
  descriptor: number;
  direct: boolean;
  blocks: PlacedBlock[];
  pageSize: number;
  /** Of a `ChannelState` with a channel for each connection. */
  state: SharedArrayBuffer;
  connections: number;
  role:
    | { kind: 'main'; parts: StreamParts; withPages: boolean }
    | { kind: 'channel'; channel: number; uuid: Uint8Array; marks: SyncMarks };
}
