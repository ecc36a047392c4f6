/**
 * Which chunks of a file are there: a bitmap beside the file, which survives the process that keeps it.
 *
 * ```text
 * 0        8   "MPRAMCM1"
 * 8        8   bytes of the file, little-endian
 * 16       …   bit i & 7 of byte i >> 3 for chunk i: it was written
 * ```
 *
 * The bits are hints. After a crash of the host a bit may be on disk before its chunk is, so each chunk is checked against its
 * name before a new process believes in it.
 */
import { constants, fstatSync } from 'node:fs';
import { truncateFile } from '../io/file/file-space.js';
import { closeFile, openFile, releaseFiles } from '../io/file/open-file.js';
import { readWhole, writeFully } from '../io/file/positional-io.js';
import { CHUNK_BYTES } from './format.js';

const MAGIC = 'MPRAMCM1';
const HEAD_BYTES = 16;

export class ChunkMap implements Disposable {
  private constructor(
    private readonly fd: number,
    private readonly bits: Buffer,
  ) {}

  /** @param path the bitmap; one that does not fit the file is begun anew */
  static open(path: string, fileBytes: number): ChunkMap {
    const fd = openFile(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW);
    try {
      const head = Buffer.alloc(HEAD_BYTES);
      head.write(MAGIC, 'latin1');
      head.writeBigUInt64LE(BigInt(fileBytes), 8);
      const bytes = Buffer.alloc(HEAD_BYTES + Math.ceil(Math.ceil(fileBytes / CHUNK_BYTES) / 8));
      if (fstatSync(fd).size === bytes.length) readWhole(fd, bytes, 0);
      if (!bytes.subarray(0, HEAD_BYTES).equals(head)) {
        bytes.fill(0);
        bytes.set(head);
        truncateFile(fd, 0);
        writeFully(fd, bytes, 0);
      }
      return new ChunkMap(fd, bytes.subarray(HEAD_BYTES));
    } catch (error) {
      releaseFiles([fd]);
      throw error;
    }
  }

  has(chunk: number): boolean {
    return ((this.bits[chunk >> 3] ?? 0) & (1 << (chunk & 7))) !== 0;
  }

  /** @param chunks ascending */
  add(chunks: readonly number[]): void {
    this.#change(chunks, (byte, bit) => byte | bit);
  }

  remove(chunks: readonly number[]): void {
    this.#change(chunks, (byte, bit) => byte & ~bit);
  }

  [Symbol.dispose](): void {
    closeFile(this.fd);
  }

  #change(chunks: readonly number[], change: (byte: number, bit: number) => number): void {
    if (chunks.length === 0) return;
    let first = Number.POSITIVE_INFINITY;
    let end = 0;
    for (const chunk of chunks) {
      const at = chunk >> 3;
      this.bits[at] = change(this.bits[at] ?? 0, 1 << (chunk & 7));
      first = Math.min(first, at);
      end = Math.max(end, at + 1);
    }
    writeFully(this.fd, this.bits.subarray(first, end), HEAD_BYTES + first);
  }
}
