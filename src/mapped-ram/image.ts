import { type BigIntStats, constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';

import * as v from 'valibot';
import { type FileOffset, fileOffset } from '../branded.js';
import { assertArguments, assertOptions, optionsOf, wholeNumber } from '../checked-options.js';

import { defined } from '../defined.js';
import { errorReason, MapramError } from '../errors.js';
import { descriptorPath } from '../io/file/open-file.js';
import type { StreamConfiguration } from '../stream/configuration.js';
import type { DeviceSection, StreamTail } from '../stream/device-sections.js';
import { malformed } from '../stream/malformed.js';
import type { RamBlock } from '../stream/ram-block.js';
import { encodeSections } from '../stream/stream-writer.js';
import { descriptionKey } from '../stream/vmdescription.js';
import { MAX_BITMAP_BYTES, MAX_PAGES, PageBitmap, type PageRun } from './bitmap.js';
import { type ByteSource, FileSource } from './byte-source.js';
import { type Container, findStream } from './container.js';
import { GuestMap } from './guest-map.js';
import { readGuestMemory } from './guest-memory.js';
import { type ImageScan, scanStream } from './image-scan.js';
import { knownRegions } from './known-regions.js';

/** The key of the vmdescription under which mapram keeps what it knows about a file. */
export const MANIFEST_KEY = 'mapram';

/** A RAM block of a mapped-ram image. */
export interface ImageBlock {
  idstr: string;
  usedLength: number;
  pageSize: number;
  pageCount: number;
  /** As files saved with `x-ignore-shared` have it beside the block; `guestMap` knows more. */
  guestAddress?: number;
  recordOffset: FileOffset;
  headerOffset: FileOffset;
  headerVersion: number;
  bitmapOffset: FileOffset;
  pagesOffset: FileOffset;
  /** Set where the page's slot is valid; a page whose bit is clear is zero, whatever its slot holds. */
  bitmap: PageBitmap;
}

export interface ImageOpenOptions {
  /** Where in the file the stream starts. Found by itself at the start of a file and behind libvirt's header. */
  offset?: number | undefined;
  /** Where the stream is, for a caller that has looked for it with `findContainer`; `offset` is then not used. */
  container?: Container | undefined;
  /** Disposed of together with the image. */
  owner?: AsyncDisposable | undefined;
  /** What the caller has found wrong already. */
  problems?: readonly string[] | undefined;
}

const any = <T>(message: string) =>
  v.optional(v.custom<T>((value) => typeof value === 'object' && value !== null, message));

const OpenOptionsSchema = optionsOf<ImageOpenOptions>({
  offset: v.optional(wholeNumber(0)),
  container: any('a container, as findContainer returns it'),
  owner: any('something to be disposed of'),
  problems: v.optional(v.array(v.string('a string'), 'an array of strings')),
});

const SourceSchema = v.custom<string | FileHandle | ByteSource>(
  (value) =>
    (typeof value === 'string' && value !== '') ||
    (typeof value === 'object' && value !== null && ('byteLength' in value || 'fd' in value)),
  'a path, a FileHandle or a ByteSource',
);

/**
 * A mapped-ram file, opened for reading: its blocks, any page of them, and the device state.
 *
 * Opening reads the headers, the bitmaps and everything behind the RAM, no pages. A file whose save did not finish opens
 * all the same, with `complete` false, the reason in `problems`, and those blocks whose headers and bitmaps are there.
 */
export class MappedRamImage implements AsyncDisposable {
  readonly form = 'mapped-ram';
  readonly blocks: readonly ImageBlock[];
  readonly container: Container;
  readonly configuration: StreamConfiguration;
  /** Bytes a page. */
  readonly pageSize: number;
  /** Section id of RAM in this stream. */
  readonly ramSectionId: number;
  /** Whether the stream is there up to its EOF, i.e. the save finished. */
  readonly complete: boolean;
  /** Whether the SWITCHOVER_START command is in the stream, as machine types from 10.0 on have it. */
  readonly switchoverStart: boolean;
  /** Number of PART sections, i.e. of rounds over RAM. */
  readonly rounds: number;
  /** Everything behind RAM, split; its `sectionBytes` can go verbatim into another stream. */
  readonly tail: StreamTail;
  /** Sections of devices that must be set up before RAM is loaded (virtio-mem). */
  readonly earlySections: readonly DeviceSection[];
  /** The same in stream format, openings and footers included. */
  readonly earlySectionBytes: Uint8Array;
  /** File offset at which the tail starts; `undefined` when the file does not reach that far. */
  readonly tailOffset: number | undefined;
  /** What was found wrong while opening, in people's words. `checkImage` looks at everything else. */
  readonly problems: readonly string[];

  #guestMap: GuestMap | undefined;

  private constructor(
    readonly source: ByteSource,
    scan: ImageScan,
    blocks: readonly ImageBlock[],
    earlier: readonly string[],
    private readonly owner: AsyncDisposable | undefined,
  ) {
    this.blocks = blocks;
    this.container = scan.container;
    this.configuration = scan.configuration;
    this.pageSize = scan.pageSize;
    this.ramSectionId = scan.ramSectionId;
    this.switchoverStart = scan.switchoverStart;
    this.rounds = scan.rounds;
    this.tail = scan.tail;
    this.tailOffset = scan.tailOffset;
    this.complete = scan.tail.complete && scan.ramEnded && scan.container.libvirt?.header.complete !== false;
    this.earlySections = scan.earlySections;
    this.earlySectionBytes = encodeSections(this.earlySections);
    this.problems = [...earlier, ...markProblems(scan.container), ...scan.problems, ...scan.tail.problems];
  }

  /**
   * Opens a file by path or handle, or any other byte source. A handle stays the caller's to close.
   *
   * @throws MapramError `FORMAT` saying what the file is instead or what is damaged, `UNSUPPORTED` for a plain
   *   stream, a compressed one, or a newer format version, `IO` when reading fails
   */
  static async open(
    from: string | FileHandle | ByteSource,
    options: ImageOpenOptions = {},
  ): Promise<MappedRamImage> {
    assertArguments<{ from: string | FileHandle | ByteSource }>(
      'MappedRamImage.open',
      { from: SourceSchema },
      { from },
    );
    assertOptions('MappedRamImage.open', OpenOptionsSchema, options);
    if (typeof from !== 'string') {
      const source = 'byteLength' in from ? from : await FileSource.of(from, `file descriptor ${from.fd}`);
      return MappedRamImage.fromSource(source, options, options.owner);
    }
    // O_NONBLOCK: opening a FIFO must not wait for a writer.
    const handle = await open(from, constants.O_RDONLY | constants.O_NONBLOCK).catch((cause: Error) => {
      throw new MapramError('IO', `opening ${from}: ${errorReason(cause)}`, { path: from, cause });
    });
    try {
      return await MappedRamImage.fromSource(await FileSource.of(handle, from), options, handle);
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  /**
   * Opens a file that is open already, whatever its name leads to by now.
   *
   * @param fd any descriptor of it, which stays the caller's
   * @param name for messages
   * @throws as `open` does
   */
  static async reopen(fd: number, name: string, options: ImageOpenOptions = {}): Promise<MappedRamImage> {
    const handle = await open(descriptorPath(fd), constants.O_RDONLY).catch((cause: Error) => {
      throw new MapramError('IO', `opening ${name}: ${errorReason(cause)}`, { path: name, cause });
    });
    try {
      return await MappedRamImage.fromSource(await FileSource.of(handle, name), options, handle);
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  private static async fromSource(
    source: ByteSource,
    { offset, container, problems = [] }: ImageOpenOptions,
    owner: AsyncDisposable | undefined,
  ): Promise<MappedRamImage> {
    const scan = await scanStream(source, container ?? (await findStream(source, offset)));
    const blocks: ImageBlock[] = [];
    let bitmapBytes = 0;
    for (const block of scan.blocks) {
      try {
        const read = await readBlock(source, block, MAX_BITMAP_BYTES - bitmapBytes);
        bitmapBytes += read.bitmap.bytes.byteLength;
        blocks.push(read);
      } catch (error) {
        // With whole blocks before it the file is worth opening.
        if (!(error instanceof MapramError) || error.code !== 'FORMAT' || blocks.length === 0) throw error;
        scan.problems.push(error.message);
        break;
      }
    }
    return new MappedRamImage(source, scan, blocks, problems, owner);
  }

  get path(): string {
    return this.source.name;
  }

  /** The open file behind the image: what its path leads to may be another one by now. `undefined` for other sources. */
  get descriptor(): number | undefined {
    return this.source instanceof FileSource ? this.source.fd : undefined;
  }

  /** Of that file before anything was read from it. */
  get status(): BigIntStats | undefined {
    return this.source instanceof FileSource ? this.source.status : undefined;
  }

  /** Where the blocks lie in guest-physical memory. */
  get guestMap(): GuestMap {
    this.#guestMap ??= new GuestMap(this.configuration, this.blocks, knownRegions(this));
    return this.#guestMap;
  }

  /** What mapram wrote about the file when it saved it; `undefined` in files of others. */
  get manifest(): unknown {
    const { description } = this.tail;
    return description && descriptionKey(description, MANIFEST_KEY);
  }

  /** The device sections, those before RAM first. */
  get devices(): DeviceSection[] {
    return [...this.earlySections, ...this.tail.sections];
  }

  /** The block called `idstr`. */
  block(idstr: string): ImageBlock | undefined {
    return this.blocks.find((block) => block.idstr === idstr);
  }

  /**
   * The contents of page `index`; a zero page where the bitmap says so, whatever the slot holds.
   *
   * @throws MapramError `FORMAT` when the file ends before the page
   */
  async readPage(block: ImageBlock, index: number): Promise<Uint8Array> {
    return this.readPages(block, index, 1);
  }

  /** The contents of `count` pages from page `first` on. */
  async readPages(block: ImageBlock, first: number, count: number): Promise<Uint8Array> {
    const { pageSize, pageCount, idstr } = block;
    if (!(first >= 0 && count >= 0 && first + count <= pageCount)) {
      throw new RangeError(`pages ${first} to ${first + count} are outside ${idstr} of ${pageCount} pages`);
    }
    const contents = new Uint8Array(count * pageSize);
    for (const run of block.bitmap.runs(first, first + count)) {
      contents.set(await this.readRun(block, run), (run.first - first) * pageSize);
    }
    return contents;
  }

  /**
   * Guest-physical memory from `address` on, `length` bytes.
   *
   * @throws RangeError where there is no RAM, or none whose place is known, in the range
   * @throws MapramError `FORMAT` when the file ends before a page of it
   */
  read(address: number, length: number): Promise<Uint8Array> {
    return readGuestMemory(this, address, length);
  }

  /** Runs of pages whose slots are valid, at most `maximum` pages long. */
  runs(block: ImageBlock, maximum?: number): Generator<PageRun, void, undefined> {
    return block.bitmap.runs(0, block.pageCount, maximum);
  }

  /** The slots of a run as they are in the file. */
  async readRun(block: ImageBlock, { first, count }: PageRun): Promise<Uint8Array> {
    const position = fileOffset(block.pagesOffset + first * block.pageSize);
    const bytes = await this.source.read(position, count * block.pageSize);
    if (bytes.byteLength < count * block.pageSize) {
      throw malformed(
        this.path,
        position + bytes.byteLength,
        `the file ends inside the pages of ${block.idstr}`,
        'it was cut short',
      );
    }
    return bytes;
  }

  async close(): Promise<void> {
    await this.owner?.[Symbol.asyncDispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** What a container's own mark says against the file. */
export function markProblems({ libvirt }: Container): string[] {
  return libvirt?.header.complete === false
    ? ['libvirt has marked it LibvirtQemudPart: its save did not finish']
    : [];
}

/** @param limit of its bitmap, in bytes */
async function readBlock(source: ByteSource, block: RamBlock, limit: number): Promise<ImageBlock> {
  const { idstr, usedLength, guestAddress } = block;
  const header = block.mappedRam as NonNullable<RamBlock['mappedRam']>;
  const { version, pageSize } = header;
  const recordOffset = fileOffset(header.recordOffset);
  const headerOffset = fileOffset(header.headerOffset);
  const bitmapOffset = fileOffset(header.bitmapOffset);
  const pagesOffset = fileOffset(header.pagesOffset);
  const pageCount = usedLength / pageSize;
  const bitmapBytes = PageBitmap.byteLength(pageCount);
  if (pageCount > MAX_PAGES || bitmapOffset + bitmapBytes > pagesOffset) {
    throw malformed(
      source.name,
      headerOffset,
      `the bitmap of ${idstr}, ${bitmapBytes} bytes, reaches into its pages`,
    );
  }
  if (bitmapBytes > limit) {
    throw new MapramError(
      'UNSUPPORTED',
      `opening ${source.name}: its RAM blocks have more than ${MAX_BITMAP_BYTES * 8} pages together, which are 4 TiB of 4 KiB pages`,
      { path: source.name, offset: headerOffset },
    );
  }
  if (bitmapOffset + bitmapBytes > source.byteLength) {
    throw malformed(
      source.name,
      bitmapOffset,
      `the file ends before the bitmap of ${idstr}`,
      'it was cut short',
    );
  }
  const bitmap = await readBitmap(source, bitmapOffset, pageCount);
  return {
    idstr,
    usedLength,
    pageSize,
    pageCount,
    ...defined({ guestAddress }),
    recordOffset,
    headerOffset,
    headerVersion: version,
    bitmapOffset,
    pagesOffset,
    bitmap,
  };
}

const BITMAP_CHUNK_BYTES = 2 ** 20;

/** A bitmap, in pieces: memory for those of zeros alone, such as holes, is never touched. */
async function readBitmap(source: ByteSource, offset: FileOffset, pageCount: number): Promise<PageBitmap> {
  const bitmap = new PageBitmap(pageCount);
  const { bytes } = bitmap;
  const zeros = Buffer.alloc(Math.min(BITMAP_CHUNK_BYTES, bytes.byteLength));
  for (let at = 0; at < bytes.byteLength; at += BITMAP_CHUNK_BYTES) {
    const chunk = await source.read(
      fileOffset(offset + at),
      Math.min(BITMAP_CHUNK_BYTES, bytes.byteLength - at),
    );
    if (zeros.compare(chunk, 0, chunk.byteLength, 0, chunk.byteLength) !== 0) bytes.set(chunk, at);
  }
  return bitmap;
}
