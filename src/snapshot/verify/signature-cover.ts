/**
 * What the signature of a file does not cover. The root, over which it is, stands for headers, bitmaps, device state and the manifest; for pages it
 * stands only through their checksums, and for nothing before the stream.
 *
 *     0 ... container.offset   stream: magic, records, bitmaps, pages, device state, manifest
 *     not covered              covered, pages as far as there are SHA-256 checksums of them
 */
import { fileOffset } from '../../branded.js';
import { dataExtents } from '../../io/file/data-extents.js';
import type { Manifest } from '../../manifest/manifest.js';
import type { MappedRamImage } from '../../mapped-ram/image.js';

const READ_BYTES = 1 << 20;

/** Checksums that nobody can find other pages for. */
const CRYPTOGRAPHIC = new Set(['sha256-128']);

export interface SignatureGaps {
  /** What a signature promises and this one does not. */
  problems: string[];
  /** What the caller has asked to be passed over. */
  notes: string[];
}

export async function signatureGaps(image: MappedRamImage, { checksums }: Manifest): Promise<SignatureGaps> {
  const gaps: SignatureGaps = { problems: [], notes: [] };
  if (checksums === undefined) {
    gaps.problems.push('its signature does not cover its memory, of which it has no checksums');
  } else if (!CRYPTOGRAPHIC.has(checksums.algorithm)) {
    gaps.problems.push(
      `its signature does not cover its memory, whose checksums (${checksums.algorithm}) can be forged`,
    );
  }
  const { kind, offset } = image.container;
  if (await hasData(image, offset)) {
    const what = `its first ${offset} bytes, before its stream, are not covered by its signature`;
    // Where the caller says at which offset the stream is, what stands before it is the caller's own.
    if (kind === 'qemu') gaps.notes.push(what);
    else gaps.problems.push(`${what}: a header of ${kind}`);
  }
  return gaps;
}

/** Whether anything but zeros stands in the first `length` bytes of the file. */
async function hasData({ source, descriptor }: MappedRamImage, length: number): Promise<boolean> {
  const extents = descriptor === undefined ? [{ start: 0, end: length }] : dataExtents(descriptor, 0, length);
  for (const { start, end } of extents) {
    for (let at = start; at < end; at += READ_BYTES) {
      const bytes = await source.read(fileOffset(at), Math.min(READ_BYTES, end - at));
      if (bytes.some((byte) => byte !== 0)) return true;
    }
  }
  return false;
}
