import type { MappedRamHeader } from './mapped-ram-header.js';

/** One entry of the block list in the RAM section's START. */
export interface RamBlock {
  /** QEMU's name of the block, e.g. `pc.ram` or `0000:00:02.0/vga.vram`. */
  idstr: string;
  /** Bytes of RAM in use, a multiple of the page size. */
  usedLength: number;
  /** Page size of the memory behind the block, present for huge pages in a stream with postcopy. */
  blockPageSize?: number;
  /** Where the block's region starts in guest-physical memory, present with `x-ignore-shared`. */
  guestAddress?: number;
  /** Present in mapped-ram streams. */
  mappedRam?: MappedRamHeader & {
    /** Where the block's record starts, from the start of the file. */
    recordOffset: number;
    /** Where the 28-byte header starts, from the start of the file. */
    headerOffset: number;
  };
}
