/** Small sealed files for tests. */
import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type SealOptions, sealImage } from '../../src/manifest/seal.js';
import type { MappedRamImage } from '../../src/mapped-ram/image.js';
import { type BuiltinImageOptions, writeBuiltinImage } from '../snapshot/builtin-image.js';

/** A folder that is removed when disposed. */
export class Folder implements Disposable {
  readonly path = mkdtempSync(path.join(tmpdir(), 'mapram-trust-'));

  file(name: string): string {
    return path.join(this.path, name);
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

/** Seals a file as a save does. */
export async function seal(file: string, options: Partial<SealOptions> = {}): ReturnType<typeof sealImage> {
  const fd = openSync(file, 'r+');
  try {
    return await sealImage({
      path: file,
      fd,
      offset: 0,
      facts: { runState: 'running' },
      checksums: { algorithm: 'xxh64', chunkBytes: 2 ** 20 },
      channels: 1,
      direct: false,
      ...options,
    });
  } finally {
    closeSync(fd);
  }
}

/** A sealed image of a builtin guest, with stale slots where asked for. */
export async function writeSealedImage(
  file: string,
  options: BuiltinImageOptions & Partial<SealOptions> = {},
): ReturnType<typeof sealImage> {
  await writeBuiltinImage(file, options);
  return await seal(file, options);
}

/** What a byte of a file is good for. */
export type FilePlace = 'before the stream' | 'covered' | 'page' | 'stale slot' | 'gap';

/** Tells it for any offset of the image. */
export function placesOf(image: MappedRamImage): (offset: number) => FilePlace {
  const { container, blocks } = image;
  return (offset) => {
    if (offset < container.offset) return 'before the stream';
    for (const { bitmapOffset, bitmap, pagesOffset, usedLength, pageSize } of blocks) {
      if (offset < bitmapOffset + bitmap.bytes.byteLength) return 'covered';
      if (offset < pagesOffset) return 'gap';
      if (offset >= pagesOffset + usedLength) continue;
      return bitmap.test(Math.floor((offset - pagesOffset) / pageSize)) ? 'page' : 'stale slot';
    }
    return 'covered';
  };
}
