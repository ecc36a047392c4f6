import { guestAddress } from '../branded.js';
import type { GuestMap } from './guest-map.js';

interface PagedBlock {
  idstr: string;
  pageSize: number;
}

/** Whatever holds the pages of a guest and knows where they belong. */
interface GuestPages<Block extends PagedBlock> {
  readonly path: string;
  readonly guestMap: GuestMap;
  block(idstr: string): Block | undefined;
  readPages(block: Block, first: number, count: number): Promise<Uint8Array>;
}

/** Bound on one read, so that a caller's mistake does not ask for all of memory at once. */
const MAX_READ_BYTES = 2 ** 30;

/**
 * Guest-physical memory from `address` on.
 *
 * @throws RangeError where there is no RAM, or none whose place is known, in the range
 */
export async function readGuestMemory<Block extends PagedBlock>(
  pages: GuestPages<Block>,
  address: number,
  length: number,
): Promise<Uint8Array> {
  if (!Number.isSafeInteger(address) || address < 0 || !(length >= 0 && length <= MAX_READ_BYTES)) {
    throw new RangeError(`${length} bytes at guest address ${address} cannot be read at once`);
  }
  const contents = new Uint8Array(length);
  let at = address;
  for (const slice of pages.guestMap.slices(guestAddress(address), length)) {
    const block = pages.block(slice.idstr);
    if (slice.start !== at || block === undefined) break;
    const first = Math.floor(slice.blockOffset / block.pageSize);
    const end = Math.ceil((slice.blockOffset + slice.length) / block.pageSize);
    const bytes = await pages.readPages(block, first, end - first);
    const skip = slice.blockOffset - first * block.pageSize;
    contents.set(bytes.subarray(skip, skip + slice.length), at - address);
    at += slice.length;
  }
  if (at < address + length) {
    throw new RangeError(
      `${pages.path} has no RAM that is known to lie at guest address 0x${at.toString(16)}`,
    );
  }
  return contents;
}
