/** A folder of its own for each test, with files made to measure and a store in it. */
import { randomFillSync } from 'node:crypto';
import { closeSync, ftruncateSync, mkdirSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { unmountBelow } from '../support/fuse.js';

export const CHUNK = 64 << 10;

export class TemporaryStore implements Disposable {
  readonly folder = mkdtempSync(path.join(os.tmpdir(), 'mapram-store-'));
  readonly place = `dir:${path.join(this.folder, 'store')}`;

  path(name: string): string {
    return path.join(this.folder, name);
  }

  subfolder(name: string): string {
    mkdirSync(this.path(name), { recursive: true });
    return this.path(name);
  }

  [Symbol.dispose](): void {
    unmountBelow(this.folder);
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Bytes for a place of a file: random where only the length is given. */
export type Piece = readonly [offset: number, bytes: Uint8Array | number];

/** Makes a file, or changes the pieces of one. What is not written is a hole. */
export function writePieces(file: string, length: number, pieces: readonly Piece[]): void {
  const fd = openSync(file, 'a+');
  closeSync(fd);
  const target = openSync(file, 'r+');
  try {
    ftruncateSync(target, length);
    for (const [offset, bytes] of pieces) {
      const data = typeof bytes === 'number' ? randomFillSync(Buffer.alloc(bytes)) : bytes;
      writeSync(target, data, 0, data.length, offset);
    }
  } finally {
    closeSync(target);
  }
}
