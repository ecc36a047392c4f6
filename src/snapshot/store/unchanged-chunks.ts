/** Which parts of a file are those of the snapshot before, by the checksums in both: they need not be read. */
import { equalChunksOf } from '../../analysis/equal-chunks.js';
import { findBit } from '../../channels/page-bits.js';
import { readManifest } from '../../manifest/check-manifest.js';
import { type ImageBlock, MappedRamImage } from '../../mapped-ram/image.js';
import { CHUNK_BYTES } from '../../store/format.js';
import type { SnapshotRoot, StoredFile } from '../../store/snapshot-root.js';
import type { Store } from '../../store/store.js';
import { StoreSource } from '../../store/store-source.js';

/** The only digests that a guest cannot make equal on purpose. */
const SAFE = 'sha256-128';

/**
 * Undefined where nothing can be known: one of the two is no mapped-ram file, or was not saved with SHA-256 (as signed ones are).
 *
 * @returns whether the chunk of a file of this number is byte for byte that of the parent
 */
export async function unchangedChunks(
  image: MappedRamImage,
  store: Store,
  parent: SnapshotRoot,
): Promise<((chunk: number) => boolean) | undefined> {
  const before = parent.files.find(({ role }) => role === 'state') as StoredFile;
  if (algorithmOf(parent.manifest) !== SAFE || algorithmOf(image.manifest) !== SAFE) return undefined;
  await using old = await MappedRamImage.open(new StoreSource(before, store.reader(parent)));
  const equal = await equalChunksOf(old, image);
  if (equal === undefined) return undefined;
  const blocks = image.blocks.filter(
    ({ idstr, pagesOffset }) => old.block(idstr)?.pagesOffset === pagesOffset,
  );
  const { chunkBytes } = equal;
  return (chunk) => {
    const start = chunk * CHUNK_BYTES;
    const block = blocks.find(
      ({ pagesOffset, usedLength }) =>
        start >= pagesOffset && start + CHUNK_BYTES <= pagesOffset + usedLength,
    );
    if (block === undefined || !isWhollyPresent(block, start - block.pagesOffset)) return false;
    const first = Math.floor((start - block.pagesOffset) / chunkBytes);
    const last = Math.floor((start - block.pagesOffset + CHUNK_BYTES - 1) / chunkBytes);
    for (let index = first; index <= last; index++) if (!equal.isEqual(block.idstr, index)) return false;
    return true;
  };
}

/** Slots of pages that are zero by the bitmap are covered by no digest, whatever they hold. */
function isWhollyPresent({ bitmap, pageSize }: ImageBlock, offset: number): boolean {
  const end = (offset + CHUNK_BYTES) / pageSize;
  return findBit(bitmap.bytes, offset / pageSize, end, false) >= end;
}

function algorithmOf(manifest: unknown): string | undefined {
  const checked = readManifest(JSON.stringify(manifest ?? null));
  return 'problem' in checked ? undefined : checked.checksums?.algorithm;
}
