/**
 * What mapram knows about a file, kept inside it: one more key at the end of the vmdescription, which QEMU reads and
 * ignores.
 *
 * ```
 * … device sections, EOF, 06, be32 length,
 * {"configuration": …, "page_size": 4096, "devices": [ … ], "mapram": {"format":1, … ,"root":"<64 hex>","signature":{ … }}}
 *  \___________________ QEMU's description ________________/  \_______ the manifest, as JSON.stringify writes it ______/
 * ```
 *
 * `root` comes last but for the signature: it covers every byte before it, see root.ts.
 */
import * as v from 'valibot';
import { MAXIMUM_CHUNK } from '../channels/channel-block.js';
import { DIGEST_BYTES } from '../checksums/chunk-hash.js';
import { CpuSchema } from './cpu-schema.js';
import { LaunchSchema } from './launch-schema.js';

/** Newest format that this release writes and reads. */
export const MANIFEST_FORMAT = 1;

const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const base64 = (bytes?: number) =>
  v.pipe(
    v.string(),
    v.check((text) => {
      const decoded = Buffer.from(text, 'base64');
      return decoded.toString('base64') === text && (bytes === undefined || decoded.length === bytes);
    }, 'not base64'),
  );

const BlockSchema = v.strictObject({
  idstr: v.string(),
  /** Bytes. */
  usedLength: count,
  /** File offsets. */
  bitmapOffset: count,
  pagesOffset: count,
  /** The digests of the block's chunks, one behind the other; absent where checksums were switched off. */
  digests: v.exactOptional(base64()),
});

/** A part of a block that lies in one piece in guest-physical memory. All in bytes. */
const RegionSchema = v.strictObject({
  idstr: v.string(),
  /** Guest-physical address of its first byte. */
  start: count,
  length: count,
  /** Byte of the block at `start`. */
  blockOffset: count,
});

const ManifestSchema = v.strictObject({
  format: v.literal(MANIFEST_FORMAT),
  /** Identity of this save: a random UUID. */
  id: v.pipe(v.string(), v.uuid()),
  /** ISO 8601, UTC. */
  createdAt: v.pipe(v.string(), v.isoTimestamp()),
  /** Version of mapram that wrote it. */
  mapram: v.string(),
  /** Absent for the builtin guest. */
  qemu: v.exactOptional(v.string()),
  machine: v.string(),
  /** State of the VM before the save, in QEMU's words. */
  runState: v.string(),
  /** What the guest may rely on, absent where QEMU does not tell. */
  cpu: v.exactOptional(CpuSchema),
  /** Name of the block that is the machine's RAM where it has no memory object of its own. */
  defaultRamId: v.exactOptional(v.string()),
  /** How the VM was started: data to be shown, never to be acted upon unasked. */
  launch: v.exactOptional(LaunchSchema),
  /** Bytes a page. */
  pageSize: count,
  /** Where the blocks lay in guest-physical memory, as the VM told. */
  guestRegions: v.exactOptional(v.array(RegionSchema)),
  blocks: v.array(BlockSchema),
  checksums: v.exactOptional(
    v.strictObject({
      algorithm: v.picklist(Object.keys(DIGEST_BYTES) as (keyof typeof DIGEST_BYTES)[]),
      /** Bytes of a block that one digest stands for, a power of two. */
      chunkBytes: v.pipe(
        count,
        v.maxValue(MAXIMUM_CHUNK),
        v.check((bytes) => Number.isInteger(Math.log2(bytes)), 'not a power of two'),
      ),
    }),
  ),
  /** SHA-256, hexadecimal. */
  root: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/)),
  signature: v.exactOptional(
    v.strictObject({
      algorithm: v.literal('ed25519'),
      /** The raw 32 bytes, base64. It tells which key to ask for; it proves nothing. */
      publicKey: base64(32),
      /** Over the 32 bytes of `root`, see signature.ts. */
      value: base64(64),
    }),
  ),
});

export type Manifest = v.InferOutput<typeof ManifestSchema>;
export type ManifestBlock = Manifest['blocks'][number];
export type ManifestChecksums = NonNullable<Manifest['checksums']>;

/**
 * Takes a manifest as it was found in a file.
 *
 * @returns the manifest, or what is wrong with it in people's words
 */
export function parseManifest(value: unknown): Manifest | { problem: string } {
  const format = (value as { format?: unknown } | null)?.format;
  if (typeof format === 'number' && format > MANIFEST_FORMAT) {
    return { problem: `it has format ${format}, this version of mapram reads ${MANIFEST_FORMAT}` };
  }
  const result = v.safeParse(ManifestSchema, value);
  if (result.success) return result.output;
  const [issue] = result.issues;
  const place = issue.path?.map(({ key }) => String(key)).join('.') ?? 'it';
  return { problem: `${place} is not as it must be` };
}
