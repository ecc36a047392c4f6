import { closeSync, openSync, writeSync } from 'node:fs';
import { ImageWriter } from '../../src/mapped-ram/image-writer.js';

export interface SyntheticBlock {
  readonly idstr: string;
  readonly usedLength: number;
  /** Contents by page number. */
  readonly pages?: Readonly<Record<number, Uint8Array>>;
  /** What the slots of zero pages hold. */
  readonly stale?: Readonly<Record<number, Uint8Array>>;
}

/** Writes a mapped-ram file without devices. */
export async function writeSyntheticImage(
  file: string,
  machine: string,
  blocks: readonly SyntheticBlock[],
): Promise<void> {
  const fd = openSync(file, 'w+', 0o600);
  try {
    const writer = await ImageWriter.create({
      fd,
      path: file,
      configuration: { machine, capabilities: ['mapped-ram'] },
      blocks: blocks.map(({ idstr, usedLength }) => ({ idstr, usedLength })),
      ramSectionId: 1,
    });
    await writer.writeStart();
    for (const [index, { pages = {}, stale = {} }] of blocks.entries()) {
      const layout = writer.blocks[index];
      for (const [page, contents] of Object.entries({ ...stale, ...pages })) {
        writeSync(fd, contents, 0, 4096, (layout?.pagesOffset ?? 0) + Number(page) * 4096);
      }
      for (const page of Object.keys(pages)) layout?.bitmap.set(Number(page));
    }
    await writer.writeEnd({ switchoverStart: true });
    await writer.finish('{"page_size": 4096, "devices": []}');
  } finally {
    closeSync(fd);
  }
}

/** A page full of one byte. */
export function pageOf(byte: number): Uint8Array {
  return new Uint8Array(4096).fill(byte);
}
