/** Files that are a part of the machine's memory: whether they still hold what was saved, which loading writes back. */
import { constants, fstatSync } from 'node:fs';
import { errorReason, MapramError } from '../../errors.js';
import { seekData } from '../../io/file/data-extents.js';
import { closeFile, openFile } from '../../io/file/open-file.js';
import { readFully } from '../../io/file/positional-io.js';
import { PrivateDirectory } from '../../io/file/private-directory.js';
import type { MemoryFile } from '../../launch/memory-files.js';
import { rawCopy } from '../../launch/overlays.js';
import type { ImageBlock, MappedRamImage } from '../../mapped-ram/image.js';

const WINDOW_BYTES = 1 << 20;

/** The block of `image` that is in `file`, if there is one. */
export function blockOf(image: MappedRamImage, file: MemoryFile): ImageBlock | undefined {
  return image.blocks.find(({ idstr }) => file.isBlock(idstr));
}

/**
 * In people's words, that loading `image` would replace what is in these files by something else.
 *
 * @param files with absolute paths
 */
export async function replacedContents(
  image: MappedRamImage,
  files: readonly MemoryFile[],
): Promise<string[]> {
  const changes: string[] = [];
  for (const file of files) {
    const block = blockOf(image, file);
    if (block === undefined || file.readOnly) continue;
    const what = file.kind === 'flash' ? 'UEFI variables' : 'contents of the persistent memory';
    const put = 'loading puts those of the snapshot in their place';
    try {
      if (await holdsBlock(image, block, file)) continue;
      changes.push(`the ${what} in ${file.path} are not those of the snapshot: ${put}`);
    } catch (error) {
      changes.push(`the ${what} in ${file.path} cannot be looked at (${errorReason(error)}): ${put}`);
    }
  }
  return changes;
}

async function holdsBlock(image: MappedRamImage, block: ImageBlock, file: MemoryFile): Promise<boolean> {
  if (file.format === undefined || file.format === 'raw') {
    return await isSame(image, block, file.path, file.offset);
  }
  using directory = new PrivateDirectory();
  const raw = directory.file('raw');
  await rawCopy({ path: file.path, format: file.format }, raw);
  return await isSame(image, block, raw, 0);
}

/** Compares as much as both have; holes and zero pages are not read. */
async function isSame(
  image: MappedRamImage,
  block: ImageBlock,
  file: string,
  offset: number,
): Promise<boolean> {
  const fd = openFile(file, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const found = fstatSync(fd);
    if (!found.isFile())
      throw new MapramError('IO', `reading ${file}: it is no regular file`, { path: file });
    const { pageSize, bitmap, usedLength } = block;
    const length = Math.min(usedLength, found.size - offset);
    const bytes = Buffer.alloc(WINDOW_BYTES);
    for (let at = 0; at < length; at += WINDOW_BYTES) {
      const size = Math.min(WINDOW_BYTES, length - at);
      const [first, end] = [at / pageSize, Math.ceil((at + size) / pageSize)];
      const data = seekData(fd, offset + at);
      const isHole = data === 'none' || (data !== 'unknown' && data >= offset + at + size);
      if (isHole && bitmap.runs(first, end).next().done) continue;
      const now = bytes.subarray(0, size);
      readFully(fd, now, offset + at);
      const saved = await image.readPages(block, first, end - first);
      if (now.compare(saved.subarray(0, size)) !== 0) return false;
    }
    return true;
  } finally {
    closeFile(fd);
  }
}
