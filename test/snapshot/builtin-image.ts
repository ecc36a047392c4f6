import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import { BuiltinGuest } from '../../src/guest/builtin/builtin-guest.js';
import type { BuiltinGuestOptions } from '../../src/guest/builtin/options.js';
import { ImageWriter } from '../../src/mapped-ram/image-writer.js';

export interface BuiltinImageOptions {
  readonly guest?: BuiltinGuestOptions;
  /** Ticks that the guest does before it is saved. */
  readonly ticks?: number;
  readonly offset?: number;
  /** Pages of block 0 that are zero in the guest and whose slots get other bytes. */
  readonly stale?: readonly number[];
}

/** Writes an image of a builtin guest, page by page and without the engine. Returns the pages written, by block. */
export async function writeBuiltinImage(file: string, options: BuiltinImageOptions = {}): Promise<number[]> {
  await using guest = await BuiltinGuest.start({ size: 2 ** 20, ...options.guest, begin: 'paused' });
  await guest.step(options.ticks ?? 0);
  const fd = openSync(file, 'w+', 0o600);
  try {
    const writer = await ImageWriter.create({
      fd,
      path: file,
      offset: options.offset ?? 0,
      configuration: { machine: guest.machine, capabilities: ['mapped-ram'] },
      blocks: guest.blocks.map(({ idstr, usedLength }) => ({ idstr, usedLength })),
      ramSectionId: 1,
    });
    await writer.writeStart();
    const written = writer.blocks.map((block, index) => {
      const page = Buffer.alloc(block.pageSize);
      let count = 0;
      for (let number = 0; number < block.pageCount; number += 1) {
        const { fd: memory = -1, fdOffset = 0 } = guest.blocks[index] ?? {};
        readSync(memory, page, 0, page.length, fdOffset + number * page.length);
        if (page.every((byte) => byte === 0)) continue;
        writeSync(fd, page, 0, page.length, block.pagesOffset + number * page.length);
        block.bitmap.set(number);
        count += 1;
      }
      return count;
    });
    for (const page of options.stale ?? []) {
      const [block] = writer.blocks;
      if (block?.bitmap.test(page)) throw new Error(`page ${page} is not zero`);
      writeSync(fd, Buffer.alloc(4096, 7), 0, 4096, (block?.pagesOffset ?? 0) + page * 4096);
    }
    await writer.writeEnd({ switchoverStart: true });
    const { sections, vmdescription } = guest.saveDevices();
    await writer.writeSections(sections);
    await writer.finish(vmdescription);
    return written;
  } finally {
    closeSync(fd);
  }
}
