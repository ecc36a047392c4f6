/** What the output of a stream and its threads, one a connection, tell each other. */
import type { PageOrigin } from '../../channels/page-source.js';
import type { StreamCompression } from '../../channels/socket/payload-decoder.js';

/**
 * How zero pages go out:
 *
 * - `pages`: nobody looks for them, they are pages like others.
 * - `main`: as records on the main channel; so always without multifd, and with multifd before QEMU 9.0.
 * - `packets`: named in the packets of the multifd channels.
 */
export type ZeroPageWay = 'pages' | 'main' | 'packets';

export interface StreamOutputSetup {
  /** 0 is the main channel, N + 1 multifd channel N. */
  connection: number;
  /** A socket, the end of a pipe, or a file at its place. The worker closes nothing. */
  fd: number;
  pages: PageOrigin;
  pageSize: number;
  /** Of a `ChannelState` with a channel for each connection. */
  state: SharedArrayBuffer;
  connections: number;
  zeroPages: ZeroPageWay;
  compression: { method: StreamCompression; level: number };
  /** 16 raw bytes, of the destination. */
  uuid: Uint8Array;
}

export type StreamOutputRequest =
  | { kind: 'setup'; setup: StreamOutputSetup }
  /** Main channel only. */
  | { kind: 'write'; bytes: Uint8Array }
  /**
   * A pass; absent `selected` means all pages. With `claims`, a bit for each page of each block, a page goes out by whoever sets its bit
   * first: where zero pages and others have connections of their own, a running guest's page may be one for the one and the other for
   * the other, and a receiver could take them in either order.
   */
  | { kind: 'pages'; selected?: Uint8Array[]; claims?: SharedArrayBuffer[] }
  /** Multifd channels only: a SYNC. */
  | { kind: 'synchronize' };
