/** What a set of file channels and its workers say to each other. */

import type { DigestAlgorithm } from '../../checksums/chunk-hash.js';
import type { ChannelBlock } from '../channel-block.js';

/**
 * How a page is found to be zero, in QEMU's words: `multifd` each channel looks at its own pages, `legacy` one
 * channel looks at all of them before any is written, `none` nobody looks and every page is written.
 */
export type ZeroPageDetection = 'none' | 'legacy' | 'multifd';

/** `digest` reads the image as `read` does, and needs no memory: only the digest tables are filled. */
export type ChannelAccess = 'read' | 'write' | 'digest';

export interface ChannelSetup {
  channel: number;
  /** Descriptor of the image, this channel's own. */
  fd: number;
  path: string;
  access: ChannelAccess;
  direct: boolean;
  chunkBytes: number;
  /** See `FileChannelsOptions`. */
  bridgeBytes: number;
  ioDepth: number;
  dropBehind: boolean;
  /** Memory of a `ChannelState`. */
  state: SharedArrayBuffer;
  channels: number;
  blocks: ChannelBlock[];
}

/** One pass over the blocks; `selected` holds one bit a page for each block, absent means every page. */
export type PassRequest =
  | { kind: 'scan'; selected?: Uint8Array[]; found: SharedArrayBuffer[] }
  | {
      kind: 'write';
      selected?: Uint8Array[];
      detectZeroPages: boolean;
      /** Pages that a scan found to hold data; the others are zero. */
      found?: SharedArrayBuffer[];
    }
  | { kind: 'read'; selected?: Uint8Array[] }
  | { kind: 'digest' }
  /** Not over the blocks: space that was reserved and not used is given back. */
  | { kind: 'trim' };

/** `setup` comes before the first pass. */
export type ChannelRequest =
  | { kind: 'setup'; setup: ChannelSetup }
  /** Channels of a later user will have to hash: what that takes is loaded now. */
  | { kind: 'prepare'; algorithm: DigestAlgorithm }
  | PassRequest;
