/** What the stream sender and its threads, one a connection, tell each other. */
import type { PlacedBlock } from '../multifd/page-placer.js';
import type { StreamParts, SyncMarks } from './stream-of-image.js';

export interface SenderWorkerData {
  connection: number;
  /** A blocking socket. The worker closes nothing. */
  socket: number;
  /** The file whose pages are sent, and the same open, to be opened anew. */
  path: string;
  descriptor: number;
  direct: boolean;
  blocks: PlacedBlock[];
  pageSize: number;
  /** Of a `SenderState`. */
  state: SharedArrayBuffer;
  connections: number;
  role:
    | { kind: 'main'; parts: StreamParts; withPages: boolean }
    | { kind: 'channel'; channel: number; uuid: Uint8Array; marks: SyncMarks };
}

export type FromSender =
  | { type: 'done' }
  | { type: 'aborted' }
  | { type: 'error'; code: string; message: string; offset?: number };
