import { DIGEST_BYTES, type DigestAlgorithm } from '../../checksums/chunk-hash.js';
import { MAXIMUM_CHUNK } from '../channel-block.js';

const SMALLEST_CHUNK = 2 ** 20;

/** For all digests of a file, in base64: with them its manifest stays below 1 MiB. */
const BUDGET_BYTES = 960 * 1024;

/**
 * How many bytes one digest stands for: 1 MiB, doubled until the digests of `totalBytes` of RAM fit into the manifest: 16 MiB for 1 TiB with `xxh64`, 32 MiB with
 * `sha256-128`. Above 64 MiB (6 TiB) the manifest grows instead.
 */
export function digestChunkBytes(totalBytes: number, algorithm: DigestAlgorithm): number {
  const base64Bytes = (DIGEST_BYTES[algorithm] * 4) / 3;
  let chunk = SMALLEST_CHUNK;
  while ((totalBytes / chunk) * base64Bytes > BUDGET_BYTES && chunk < MAXIMUM_CHUNK) chunk *= 2;
  return chunk;
}
