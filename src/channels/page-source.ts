/** Pages on their way out, wherever they come from: memory that may be in use, or a mapped-ram file. */
import type { MemoryBlock, SlotBlock } from './channel-block.js';

/** Consecutive pages, from a byte offset in their block on. */
export interface PageStretch {
  offset: number;
  count: number;
}

/** What a source has of some pages of one block. */
export interface SourcePages {
  block: { readonly idstr: string; readonly pageSize: number };
  /** Byte offsets in the block of pages with contents, ascending. */
  offsets: number[];
  /** Those pages, back to back. Valid until the next ones are asked for. */
  data: Uint8Array;
  zeros: PageStretch[];
}

export interface PageWishes {
  /** For each block a bit a page; absent for all pages. */
  selected?: readonly Uint8Array[];
  /** Whether pages with contents are wanted, and not zero pages alone. */
  contents: boolean;
}

/** All pages of some blocks, in chunks that threads may share out among themselves. */
export interface PageSource {
  /** Chunks there are; their numbers are the order of the blocks. */
  readonly chunks: number;
  /** The wanted pages of chunk `index`, undefined past the last one. */
  read(index: number, wishes: PageWishes): SourcePages | undefined;
  close(): void;
}

/** How a thread gets at pages: by `MemoryPages` or `ImagePages`. */
export type PageOrigin =
  /** `detectZeros`: whether zero pages are told apart; otherwise they are pages like others. */
  | { kind: 'memory'; blocks: MemoryBlock[]; detectZeros: boolean }
  /** `fd` is open for reading; each thread opens the file again, with O_DIRECT where that is wanted. */
  | { kind: 'image'; path: string; fd: number; direct: boolean; blocks: SlotBlock[] };
