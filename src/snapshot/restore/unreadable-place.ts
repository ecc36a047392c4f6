/** Where a file cannot be read: QEMU, which met it first, ends without a word of it. */
import { errorReason, MapramError } from '../../errors.js';
import type { MappedRamImage } from '../../mapped-ram/image.js';

/** Read at once. */
const WINDOW_BYTES = 1 << 20;

/**
 * Reads all pages of `image`.
 *
 * @returns the failure of the first that cannot be read, with its place in the file
 */
export async function unreadablePlace(
  image: MappedRamImage,
  signal: AbortSignal,
): Promise<MapramError | undefined> {
  for (const block of image.blocks) {
    const { pageSize, pagesOffset, idstr } = block;
    for (const run of image.runs(block, Math.max(1, WINDOW_BYTES / pageSize))) {
      if (signal.aborted) return undefined;
      try {
        await image.readRun(block, run);
      } catch (cause) {
        const offset = pagesOffset + run.first * pageSize;
        return new MapramError(
          'IO',
          `loading ${image.path}: the pages of ${idstr} from offset ${offset} on cannot be read: ${errorReason(cause)}`,
          { path: image.path, offset, cause },
        );
      }
    }
  }
  return undefined;
}
