import { DIGEST_BYTES } from '../checksums/chunk-hash.js';
import { checkManifest } from '../manifest/check-manifest.js';
import type { Manifest } from '../manifest/manifest.js';
import { type ImageBlock, MappedRamImage } from '../mapped-ram/image.js';
import type { EqualChunks } from './compare-memory.js';
import type { SavedVm } from './saved-vm.js';

/**
 * Which parts of memory two files have in common by the checksums that were made when they were saved. `undefined` unless
 * both have sound ones of the same kind.
 *
 * A chunk's digest covers its present pages one behind the other, not which ones those are: the bitmaps tell that.
 */
export async function equalChunksOf(before: SavedVm, after: SavedVm): Promise<EqualChunks | undefined> {
  const [old, now] = [await digestsOf(before), await digestsOf(after)];
  if (old === undefined || now === undefined) return undefined;
  const { algorithm, chunkBytes } = old.checksums;
  if (algorithm !== now.checksums.algorithm || chunkBytes !== now.checksums.chunkBytes) return undefined;
  const digestBytes = DIGEST_BYTES[algorithm];
  return {
    chunkBytes,
    isEqual(idstr, index) {
      const [one, other] = [old.blocks.get(idstr), now.blocks.get(idstr)];
      if (one === undefined || other === undefined) return false;
      const [from, to] = [index * digestBytes, (index + 1) * digestBytes];
      if (to > one.digests.length || to > other.digests.length) return false;
      return (
        one.block.usedLength === other.block.usedLength &&
        one.digests.compare(other.digests, from, to, from, to) === 0 &&
        samePages(one.block, other.block, index, chunkBytes)
      );
    },
  };
}

interface BlockDigests {
  block: ImageBlock;
  digests: Buffer;
}

async function digestsOf(
  saved: SavedVm,
): Promise<{ checksums: NonNullable<Manifest['checksums']>; blocks: Map<string, BlockDigests> } | undefined> {
  if (!(saved instanceof MappedRamImage)) return undefined;
  const { manifest, problems } = await checkManifest(saved);
  if (manifest?.checksums === undefined || problems.length > 0) return undefined;
  const blocks = new Map<string, BlockDigests>();
  for (const { idstr, digests } of manifest.blocks) {
    const block = saved.block(idstr);
    if (block !== undefined && digests !== undefined) {
      blocks.set(idstr, { block, digests: Buffer.from(digests, 'base64') });
    }
  }
  return { checksums: manifest.checksums, blocks };
}

/** Whether the same pages of a chunk are present in both. */
function samePages(one: ImageBlock, other: ImageBlock, index: number, chunkBytes: number): boolean {
  if (one.pageSize !== other.pageSize) return false;
  const pages = chunkBytes / one.pageSize;
  const first = index * pages;
  const end = Math.min(first + pages, one.pageCount);
  for (let page = first; page < end; ) {
    // Eight at once where they fill a byte.
    const whole = page % 8 === 0 && page + 8 <= end;
    const same = whole
      ? one.bitmap.bytes[page / 8] === other.bitmap.bytes[page / 8]
      : one.bitmap.test(page) === other.bitmap.test(page);
    if (!same) return false;
    page += whole ? 8 : 1;
  }
  return true;
}
