import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { MapramError } from '../errors.js';
import type { StreamConfiguration } from '../stream/configuration.js';
import {
  type DeviceSection,
  findDescription,
  type StreamTail,
  splitTail,
} from '../stream/device-sections.js';
import { malformed } from '../stream/malformed.js';
import type { RamBlock } from '../stream/ram-block.js';
import type { OpaqueSectionEvent, SectionEvent } from '../stream/stream-event.js';
import { StreamParser } from '../stream/stream-parser.js';
import { concatenate, encodeSections } from '../stream/stream-writer.js';
import { describedBytes, descriptionKey } from '../stream/vmdescription.js';
import { MAX_PAGES, PageBitmap, type PageRun } from './bitmap.js';
import { type ByteSource, FileSource } from './byte-source.js';
import { type Container, findStream } from './container.js';

/** The key of the vmdescription under which mapram keeps what it knows about a file. */
export const MANIFEST_KEY = 'mapram';

/** A RAM block of a mapped-ram image. */
export interface ImageBlock {
  idstr: string;
  usedLength: number;
  pageSize: number;
  pageCount: number;
  /** Guest-physical address of the block, known only from files saved with `x-ignore-shared`. */
  guestAddress?: number;
  recordOffset: number;
  headerOffset: number;
  headerVersion: number;
  bitmapOffset: number;
  pagesOffset: number;
  /** Set where the page's slot is valid; a page whose bit is clear is zero, whatever its slot holds. */
  bitmap: PageBitmap;
}

export interface ImageOpenOptions {
  /** Where in the file the stream starts. Found by itself at the start of a file and behind libvirt's header. */
  offset?: number;
}

/** What follows the RAM of an image is read as a whole; files claiming more are refused. */
const MAX_TAIL_BYTES = 2 ** 30;

const CHUNK_BYTES = 64 * 1024;

/**
 * A mapped-ram file, opened for reading: its blocks, any page of them, and the device state.
 *
 * Opening reads the headers, the bitmaps and everything behind the RAM, no pages. A file whose save did not finish opens
 * all the same, with `complete` false and the reason in `problems`, as long as its block list is whole.
 */
export class MappedRamImage implements AsyncDisposable {
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

  private constructor(
    readonly source: ByteSource,
    scan: Scan,
    blocks: readonly ImageBlock[],
    private readonly handle: FileHandle | undefined,
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
    this.complete = scan.tail.complete;
    this.earlySections = scan.early.map((section) => describedEarly(section, scan.tail));
    this.earlySectionBytes = encodeSections(this.earlySections);
    this.problems = [...scan.problems, ...scan.tail.problems];
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
    if (typeof from !== 'string') {
      const source = 'byteLength' in from ? from : await FileSource.of(from, `file descriptor ${from.fd}`);
      return MappedRamImage.read(source, options, undefined);
    }
    // O_NONBLOCK: opening a FIFO must not wait for a writer.
    const handle = await open(from, constants.O_RDONLY | constants.O_NONBLOCK).catch((cause: Error) => {
      throw new MapramError('IO', `opening ${from}: ${cause.message}`, { path: from, cause });
    });
    try {
      return await MappedRamImage.read(await FileSource.of(handle, from), options, handle);
    } catch (error) {
      await handle.close();
      throw error;
    }
  }

  private static async read(
    source: ByteSource,
    { offset }: ImageOpenOptions,
    handle: FileHandle | undefined,
  ): Promise<MappedRamImage> {
    const scan = await scanStream(source, await findStream(source, offset));
    const blocks: ImageBlock[] = [];
    for (const block of scan.blocks) blocks.push(await readBlock(source, block));
    return new MappedRamImage(source, scan, blocks, handle);
  }

  get path(): string {
    return this.source.name;
  }

  /** What mapram wrote about the file when it saved it; `undefined` in files of others. */
  get manifest(): unknown {
    const { descriptionText } = this.tail;
    return descriptionText === undefined ? undefined : descriptionKey(descriptionText, MANIFEST_KEY);
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

  /** Runs of pages whose slots are valid, at most `maximum` pages long. */
  runs(block: ImageBlock, maximum?: number): Generator<PageRun, void, undefined> {
    return block.bitmap.runs(0, block.pageCount, maximum);
  }

  /** The slots of a run as they are in the file. */
  async readRun(block: ImageBlock, { first, count }: PageRun): Promise<Uint8Array> {
    const position = block.pagesOffset + first * block.pageSize;
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
    await this.handle?.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** What one pass over the stream found. */
interface Scan {
  container: Container;
  configuration: StreamConfiguration;
  pageSize: number;
  ramSectionId: number;
  blocks: RamBlock[];
  rounds: number;
  switchoverStart: boolean;
  early: { opening: SectionEvent; event: OpaqueSectionEvent }[];
  tail: StreamTail;
  tailOffset: number | undefined;
  problems: string[];
}

async function scanStream(source: ByteSource, container: Container): Promise<Scan> {
  const { offset } = container;
  const parser = new StreamParser({ name: source.name, origin: offset });
  const problems: string[] = [];
  const early: Scan['early'] = [];
  const tailPieces: Uint8Array[] = [];
  let tailOffset: number | undefined;
  let tailBytes = 0;
  let opening: SectionEvent | undefined;
  let ramSectionId: number | undefined;
  let rounds = 0;
  let switchoverStart = false;
  let footers = true;
  const take = (events: ReturnType<StreamParser['push']>) => {
    for (const event of events) {
      switch (event.type) {
        case 'configuration':
          requireMappedRam(source.name, event.configuration);
          break;
        case 'section':
          opening = event;
          if (event.idstr === 'ram' && event.kind !== 'full') {
            ramSectionId = event.sectionId;
            if (event.kind === 'part') rounds++;
          }
          break;
        case 'section-end':
          footers = event.footer;
          break;
        case 'opaque-section':
          early.push({ opening: opening as SectionEvent, event });
          break;
        case 'command':
          if (event.name === 'switchover-start') switchoverStart = true;
          break;
        case 'tail':
          tailOffset ??= offset + event.position;
          tailPieces.push(event.data);
          tailBytes += event.data.byteLength;
          if (tailBytes > MAX_TAIL_BYTES) {
            throw malformed(source.name, tailOffset, `more than ${MAX_TAIL_BYTES} bytes follow the RAM`);
          }
          break;
      }
    }
  };
  try {
    for (let position = offset; ; ) {
      const jump = Math.min(parser.skippable, Math.max(0, source.byteLength - position));
      parser.skipped(jump);
      position += jump;
      const chunk = await source.read(position, CHUNK_BYTES);
      if (chunk.byteLength === 0) break;
      position += chunk.byteLength;
      take(parser.push(chunk));
    }
    take(parser.end());
  } catch (error) {
    // Behind a whole block list, a file that breaks off can still be shown.
    if (!(error instanceof MapramError) || error.code !== 'FORMAT' || parser.blocks.length === 0) throw error;
    problems.push(error.message);
  }
  const { configuration } = parser;
  if (configuration === undefined || ramSectionId === undefined) {
    throw malformed(source.name, offset, 'the stream has no configuration', 'it was cut short');
  }
  const tail = splitTail(concatenate(tailPieces), {
    position: (tailOffset ?? offset) - offset,
    started: parser.started,
    footers,
  });
  return {
    container,
    configuration,
    pageSize: parser.pageSize,
    ramSectionId,
    blocks: parser.blocks,
    rounds,
    switchoverStart,
    early,
    tail,
    tailOffset,
    problems,
  };
}

function requireMappedRam(name: string, { capabilities }: StreamConfiguration): void {
  if (capabilities.includes('mapped-ram')) return;
  throw new MapramError(
    'UNSUPPORTED',
    `opening ${name}: it is a plain migration stream, saved without mapped-ram; turn it into a mapped-ram file with "mapram convert --to mapped-ram"`,
    { path: name },
  );
}

async function readBlock(source: ByteSource, block: RamBlock): Promise<ImageBlock> {
  const { idstr, usedLength, guestAddress } = block;
  const header = block.mappedRam as NonNullable<RamBlock['mappedRam']>;
  const { version, pageSize, bitmapOffset, pagesOffset, recordOffset, headerOffset } = header;
  const pageCount = usedLength / pageSize;
  const bitmapBytes = PageBitmap.byteLength(pageCount);
  if (pageCount > MAX_PAGES || bitmapOffset + bitmapBytes > pagesOffset) {
    throw malformed(
      source.name,
      headerOffset,
      `the bitmap of ${idstr}, ${bitmapBytes} bytes, reaches into its pages`,
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
  const bitmap = PageBitmap.fromBytes(pageCount, await source.read(bitmapOffset, bitmapBytes));
  return {
    idstr,
    usedLength,
    pageSize,
    pageCount,
    ...(guestAddress === undefined ? {} : { guestAddress }),
    recordOffset,
    headerOffset,
    headerVersion: version,
    bitmapOffset,
    pagesOffset,
    bitmap,
  };
}

function describedEarly({ opening, event }: Scan['early'][number], tail: StreamTail): DeviceSection {
  const description = findDescription(tail.description, event.idstr, opening.instanceId);
  const fits = description !== undefined && describedBytes(description) === event.data.byteLength;
  return {
    kind: event.kind,
    sectionId: event.sectionId,
    idstr: event.idstr,
    instanceId: opening.instanceId,
    versionId: opening.versionId,
    position: opening.position,
    data: event.data,
    delimitedBy: fits ? 'description' : 'footer',
    ...(description === undefined ? {} : { description }),
  };
}
