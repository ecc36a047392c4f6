/** Whether a file's manifest is whole and belongs to the file. Reads everything that the root covers, no pages. */

import { DIGEST_BYTES } from '../checksums/chunk-hash.js';
import type { MappedRamImage } from '../mapped-ram/image.js';
import { parsePlainJson } from '../stream/description-json.js';
import { coveredByRoot, findManifest } from './description-text.js';
import { type Manifest, type ManifestBlock, parseManifest } from './manifest.js';
import { computeRoot, rootRanges } from './root.js';
import { isSignatureOf } from './signature.js';

export interface ManifestCheck {
  /** Present when it could be read, damaged or not. */
  manifest?: Manifest;
  /** In people's words; empty for a sound manifest and for a file without one. */
  problems: string[];
  /** Bytes of the file that its root was computed from. */
  checkedBytes: number;
}

export async function checkManifest(image: MappedRamImage): Promise<ManifestCheck> {
  const { descriptionText } = image.tail;
  const found = descriptionText === undefined ? undefined : await findManifest(descriptionText);
  if (descriptionText === undefined || found === undefined) return { problems: [], checkedBytes: 0 };
  const problem = (text: string): ManifestCheck => ({ problems: [text], checkedBytes: 0 });
  if (found.problem !== undefined) return problem(found.problem);
  const manifest = readManifest(descriptionText.slice(found.start, found.end));
  if ('problem' in manifest) return problem(manifest.problem);
  const contradictions = [...contradictionsOf(manifest, image)];
  if (contradictions.length > 0 || image.tailOffset === undefined || !image.complete) {
    return { manifest, problems: contradictions, checkedBytes: 0 };
  }
  return { manifest, ...(await checkRoot(manifest, image, image.tailOffset)) };
}

/** Only what `JSON.stringify` writes: two spellings of one manifest would have two roots. */
export function readManifest(text: string): Manifest | { problem: string } {
  let value: unknown;
  try {
    value = parsePlainJson(text);
  } catch {
    return { problem: 'it is not JSON' };
  }
  if (JSON.stringify(value) !== text) return { problem: 'it is not written as mapram writes it' };
  return parseManifest(value);
}

function* contradictionsOf(manifest: Manifest, image: MappedRamImage): Generator<string> {
  if (manifest.machine !== image.configuration.machine) yield 'it names another machine type';
  if (manifest.pageSize !== image.pageSize) yield 'it gives another page size';
  if (manifest.blocks.length !== image.blocks.length) {
    yield `it lists ${manifest.blocks.length} RAM blocks, the file has ${image.blocks.length}`;
    return;
  }
  for (const [index, block] of image.blocks.entries()) {
    const listed = manifest.blocks[index] as ManifestBlock;
    const same = (['idstr', 'usedLength', 'bitmapOffset', 'pagesOffset'] as const).every(
      (key) => listed[key] === block[key],
    );
    if (!same) yield `it describes RAM block ${block.idstr} otherwise`;
    yield* digestContradictions(manifest, listed);
  }
}

function* digestContradictions(
  { checksums, pageSize }: Manifest,
  { idstr, usedLength, digests }: ManifestBlock,
): Generator<string> {
  if (checksums === undefined) {
    if (digests !== undefined) yield `it has checksums of ${idstr} of an unknown kind`;
    return;
  }
  const { algorithm, chunkBytes } = checksums;
  const expected = Math.ceil(usedLength / chunkBytes) * DIGEST_BYTES[algorithm];
  const present = Buffer.byteLength(digests ?? '', 'base64');
  if (chunkBytes < pageSize) yield `its checksums are of ${chunkBytes} bytes, less than a page`;
  else if (present !== expected)
    yield `it has ${present} bytes of checksums of ${idstr} instead of ${expected}`;
}

/** Type byte and length. */
const DESCRIPTION_HEADER_BYTES = 5;

async function checkRoot(
  { root, signature }: Manifest,
  image: MappedRamImage,
  tailOffset: number,
): Promise<Pick<ManifestCheck, 'problems' | 'checkedBytes'>> {
  const { source } = image;
  const ranges = rootRanges(image, tailOffset);
  const description = Buffer.from(await source.read(ranges.tail.end, source.byteLength - ranges.tail.end));
  const covered = coveredByRoot(description);
  const problems: string[] = [];
  // The manifest was read when the file was opened: what is checked now must be that.
  const opened = Buffer.from(image.tail.descriptionText ?? '');
  const now = description.subarray(DESCRIPTION_HEADER_BYTES, DESCRIPTION_HEADER_BYTES + opened.length);
  if (!now.equals(opened)) {
    problems.push('its vmdescription has changed since the file was opened');
  }
  const checkedBytes = [...ranges.head, ranges.tail].reduce(
    (total, { start, end }) => total + Math.max(0, end - start),
    description.length,
  );
  if ((await computeRoot(source, ranges, covered)) !== root) {
    problems.push('headers, bitmaps, device state or the manifest itself have changed since the save');
  }
  if (signature && !isSignatureOf(root, signature)) problems.push('its signature does not fit its root');
  return { problems, checkedBytes };
}
