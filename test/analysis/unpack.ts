/** Golden files as files on the disk, and sources in memory. */
import { closeSync, openSync, truncateSync, writeSync } from 'node:fs';
import path from 'node:path';
import { openSource } from '../../src/analysis/open-saved-vm.js';
import type { SavedVm } from '../../src/analysis/saved-vm.js';
import { MemorySource } from '../../src/mapped-ram/byte-source.js';
import { expectedOf, goldenBytes } from '../golden/golden-file.js';

/** Writes bytes with holes where there are zeros, as QEMU leaves its files. */
function writeSparse(file: string, bytes: Uint8Array): string {
  const fd = openSync(file, 'w');
  for (let at = 0; at < bytes.length; at += 4096) {
    const piece = bytes.subarray(at, at + 4096);
    if (piece.some((byte) => byte !== 0)) writeSync(fd, piece, 0, piece.length, at);
  }
  closeSync(fd);
  truncateSync(file, bytes.length);
  return file;
}

export function unpack(folder: string, name: string): string {
  return writeSparse(path.join(folder, name), goldenBytes(name));
}

/** Opens a golden file in memory. */
export function openGolden(name: string): Promise<SavedVm> {
  const { offset } = expectedOf(name);
  return openSource(new MemorySource(goldenBytes(name), name), offset === 0 ? {} : { offset });
}
