import type { BigIntStats } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import type { FileOffset } from '../branded.js';
import { errorReason, MapramError } from '../errors.js';

/** Bytes that can be read at any place: a file, a part of memory, something over a network. */
export interface ByteSource {
  readonly byteLength: number;
  /** What to call it in errors, e.g. its path. */
  readonly name: string;
  /**
   * The bytes from `position` on, fewer than `length` only at the end. They are the caller's unless the
   * source says otherwise.
   */
  read(position: FileOffset, length: number): Promise<Uint8Array>;
}

/** A file through an open handle, which stays the caller's to close. */
export class FileSource implements ByteSource {
  private constructor(
    private readonly handle: FileHandle,
    readonly name: string,
    /** Of the file before anything was read from it. */
    readonly status: BigIntStats,
  ) {}

  /** @throws MapramError `FORMAT` for something else than a regular file */
  static async of(handle: FileHandle, name: string): Promise<FileSource> {
    const status = await handle.stat({ bigint: true });
    if (status.isDirectory()) throw notAFile(name, 'a directory');
    if (status.isFIFO()) throw notAFile(name, 'a FIFO');
    if (status.isSocket()) throw notAFile(name, 'a socket');
    if (status.isCharacterDevice()) throw notAFile(name, 'a character device');
    if (status.isBlockDevice()) throw notAFile(name, 'a block device');
    return new FileSource(handle, name, status);
  }

  get byteLength(): number {
    return Number(this.status.size);
  }

  /** The descriptor, for calls that tell where the file has holes. */
  get fd(): number {
    return this.handle.fd;
  }

  async read(position: number, length: number): Promise<Uint8Array> {
    const wanted = Math.max(0, Math.min(length, this.byteLength - position));
    const bytes = new Uint8Array(wanted);
    let filled = 0;
    while (filled < wanted) {
      const { bytesRead } = await this.handle
        .read(bytes, filled, wanted - filled, position + filled)
        .catch((cause: Error) => {
          throw new MapramError(
            'IO',
            `reading ${this.name}: ${errorReason(cause)} at offset ${position + filled}`,
            {
              path: this.name,
              offset: position + filled,
              cause,
            },
          );
        });
      if (bytesRead === 0) break;
      filled += bytesRead;
    }
    return bytes.subarray(0, filled);
  }
}

/** Bytes in memory; `read` gives views on them. */
export class MemorySource implements ByteSource {
  constructor(
    private readonly bytes: Uint8Array,
    readonly name = 'the image in memory',
  ) {}

  get byteLength(): number {
    return this.bytes.byteLength;
  }

  async read(position: number, length: number): Promise<Uint8Array> {
    return this.bytes.subarray(position, position + length);
  }
}

function notAFile(name: string, kind: string): MapramError {
  return new MapramError('FORMAT', `opening ${name}: it is ${kind}; give the path of a saved file`, {
    path: name,
  });
}
