import { closeSync, constants, fstatSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { bitmapBytes, type ChannelBlock, type MemoryBlock } from '../../src/channels/channel-block.js';
import { truncateFile } from '../../src/io/file/file-space.js';
import { createMemfd } from '../../src/io/memory/memfd.js';
import { native } from '../../src/io/native.js';

const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;

export const KIB = 1024;
export const MIB = 1024 * KIB;
export const PAGE = 4 * KIB;

/** A directory on disk and the descriptors of one test; disposing removes and closes everything. */
export class Scratch implements Disposable {
  readonly directory = mkdtempSync(path.join(tmpdir(), 'mapram-test-'));
  readonly #fds: number[] = [];

  file(name: string): string {
    return path.join(this.directory, name);
  }

  /** An empty image of `size` bytes. */
  image(size: number, name = 'image'): string {
    const file = this.file(name);
    const fd = openSync(file, constants.O_RDWR | constants.O_CREAT | constants.O_TRUNC, 0o600);
    truncateFile(fd, size);
    closeSync(fd);
    return file;
  }

  memory(length: number): number {
    return this.own(createMemfd('mapram-test', length));
  }

  /** Memory that may be sealed. */
  sealable(length: number): number {
    const fd = this.own(native().memfdCreate('mapram-test', MFD_CLOEXEC | MFD_ALLOW_SEALING));
    truncateFile(fd, length);
    return fd;
  }

  own(fd: number): number {
    this.#fds.push(fd);
    return fd;
  }

  [Symbol.dispose](): void {
    for (const fd of this.#fds) closeSync(fd);
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** A block whose memory, from its beginning on, is `fd`. */
export function block(
  fd: number,
  usedLength: number,
  more: Partial<ChannelBlock> = {},
): ChannelBlock & MemoryBlock {
  const pageSize = more.pageSize ?? PAGE;
  return {
    idstr: 'test.ram',
    usedLength,
    pagesOffset: MIB,
    pageSize,
    bitmap: new SharedArrayBuffer(bitmapBytes(usedLength, pageSize)),
    ...more,
    memory: more.memory ?? { fd, offset: 0 },
  };
}

/** Fills a page with bytes that tell which page it is. */
export function pageOf(tag: number, pageSize = PAGE): Buffer {
  const page = Buffer.alloc(pageSize);
  for (let word = 0; word < pageSize; word += 4) page.writeUInt32LE((tag * 2654435761 + word) >>> 0, word);
  return page;
}

export function pokePage(fd: number, index: number, bytes: Buffer): void {
  writeSync(fd, bytes, 0, bytes.length, index * bytes.length);
}

/** Reads with plain `read`, which allocates nothing in tmpfs. */
export function bytesOf(fd: number, offset: number, length: number): Buffer {
  const buffer = Buffer.alloc(length);
  let done = 0;
  while (done < length) {
    const read = readSync(fd, buffer, done, length - done, offset + done);
    if (read === 0) break;
    done += read;
  }
  return buffer;
}

/** The memory that an image stands for, by the rule of the layout: a page whose bit is clear is zero. */
export function naiveLoad(imageFile: string, of: ChannelBlock): Buffer {
  const fd = openSync(imageFile, 'r');
  const bits = new Uint8Array(of.bitmap);
  const memory = Buffer.alloc(of.usedLength);
  for (let page = 0; page < of.usedLength / of.pageSize; page++) {
    if ((((bits[page >> 3] ?? 0) >> (page & 7)) & 1) === 0) continue;
    bytesOf(fd, of.pagesOffset + page * of.pageSize, of.pageSize).copy(memory, page * of.pageSize);
  }
  closeSync(fd);
  return memory;
}

export function countBits(bitmap: SharedArrayBuffer): number {
  let count = 0;
  for (let byte of new Uint8Array(bitmap)) for (; byte !== 0; byte &= byte - 1) count++;
  return count;
}

export function allocated(fd: number): number {
  return fstatSync(fd).blocks * 512;
}

/** What a direct descriptor shows in /proc. */
export function openFlags(fdinfo: string): number {
  return Number.parseInt(/^flags:\s*([0-7]+)/m.exec(fdinfo)?.[1] ?? '0', 8);
}
