/**
 * The root: one SHA-256 that stands for the whole file, for its identity and for a signature.
 *
 * ```
 * magic, configuration      record 0   bitmap 0            record 1   bitmap 1       EOS … devices … EOF, 06, length, {"configuration" … "root":"
 * |=========================|==========|========| gap pages |==========|========| … pages |=====================================================|
 * stream's offset                                                                                                            root's own value
 * ```
 *
 * It is taken over the bytes marked `=`, in the order of the file: everything that a reader looks at, bar the pages
 * themselves, which the digests in the description stand for. Not covered are the gaps before page areas, slots whose
 * bit is clear (nobody reads either), and what lies before the stream, which snapshot/signature-cover.ts looks at where a signature is required.
 */

import { createHash, type Hash } from 'node:crypto';
import { type FileOffset, fileOffset } from '../branded.js';
import type { ByteSource } from '../mapped-ram/byte-source.js';
import type { MappedRamImage } from '../mapped-ram/image.js';

/** Where the covered bytes of an image lie, up to its vmdescription. */
export interface RootRanges {
  /** Half-open ranges of the file before the tail. */
  head: FileRange[];
  /** The tail up to and with the EOF byte. */
  tail: FileRange;
}

interface FileRange {
  start: FileOffset;
  end: FileOffset;
}

export function rootRanges(image: MappedRamImage, tailOffset: number): RootRanges {
  let start = image.container.offset;
  const head = image.blocks.map(({ bitmapOffset, bitmap, pagesOffset, usedLength }) => {
    const range = { start, end: fileOffset(bitmapOffset + bitmap.bytes.byteLength) };
    start = fileOffset(pagesOffset + usedLength);
    return range;
  });
  return { head, tail: { start, end: fileOffset(tailOffset + image.tail.sectionBytes.byteLength + 1) } };
}

const READ_BYTES = 1 << 20;

/**
 * @param description the type byte, length and text of the vmdescription up to the root's value
 * @returns 64 hexadecimal digits
 */
export async function computeRoot(
  source: ByteSource,
  { head, tail }: RootRanges,
  description: Uint8Array,
): Promise<string> {
  const hash = createHash('sha256');
  for (const range of [...head, tail]) await hashRange(hash, source, range);
  return hash.update(description).digest('hex');
}

async function hashRange(hash: Hash, source: ByteSource, { start, end }: FileRange): Promise<void> {
  for (let at: number = start; at < end; ) {
    const bytes = await source.read(fileOffset(at), Math.min(READ_BYTES, end - at));
    if (bytes.byteLength === 0) return;
    hash.update(bytes);
    at += bytes.byteLength;
  }
}
