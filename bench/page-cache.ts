/** Brings a saved file into the page cache, or out of it, before a measured run. */
import { closeSync, constants, fdatasyncSync, openSync } from 'node:fs';
import { dropCache } from '../src/io/file/page-cache.js';
import { MappedRamImage } from '../src/mapped-ram/image.js';
import { prefetch, prefetchRanges } from '../src/snapshot/resume/prefetch.js';

export type CacheState = 'warm' | 'cold';

/** All that is not zero is read, or all is forgotten. Holes are left alone: read, they would fill the cache with zeros. */
export async function setCache(file: string, state: CacheState): Promise<void> {
  if (state === 'warm') {
    await using image = await MappedRamImage.open(file);
    await prefetch(file, await prefetchRanges(image, file, 'all'));
    return;
  }
  const fd = openSync(file, constants.O_RDONLY);
  try {
    fdatasyncSync(fd);
    if (!dropCache(fd)) throw new Error(`the page cache of ${file} cannot be dropped`);
  } finally {
    closeSync(fd);
  }
}
