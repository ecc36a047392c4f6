import { inflateSync } from 'node:zlib';
import { fileOffset, pageNumber, type StreamPosition, streamPosition } from '../branded.js';
import { defined } from '../defined.js';
import { errorReason, MapramError } from '../errors.js';
import type { PageRun } from '../mapped-ram/bitmap.js';
import type { ByteSource } from '../mapped-ram/byte-source.js';
import type { Container } from '../mapped-ram/container.js';
import { GuestMap } from '../mapped-ram/guest-map.js';
import { readGuestMemory } from '../mapped-ram/guest-memory.js';
import { type ImageOpenOptions, MANIFEST_KEY, markProblems } from '../mapped-ram/image.js';
import { knownRegions } from '../mapped-ram/known-regions.js';
import type { OperationOptions } from '../progress.js';
import type { StreamConfiguration } from '../stream/configuration.js';
import { type DeviceSection, type StreamTail, splitTail } from '../stream/device-sections.js';
import { maxCompressedBytes } from '../stream/format.js';
import { malformed } from '../stream/malformed.js';
import type { RamBlock } from '../stream/ram-block.js';
import { StreamCollector } from '../stream/stream-collector.js';
import type { StreamEvent } from '../stream/stream-event.js';
import { StreamParser } from '../stream/stream-parser.js';
import { encodeSections } from '../stream/stream-writer.js';
import { descriptionKey } from '../stream/vmdescription.js';
import { decodeXbzrle } from '../stream/xbzrle.js';
import { type BlockIndex, PageIndex, type PageRecord } from './page-index.js';
import type { SavedBlock, SavedVm } from './saved-vm.js';

export interface StreamBlock extends SavedBlock {
  readonly index: BlockIndex;
}

export interface StreamImageOptions extends OperationOptions, Pick<ImageOpenOptions, 'owner' | 'problems'> {}

const CHUNK_BYTES = 2 ** 20;

/** Records between pages of one span are read along with them when they are no longer than this. */
const MAX_GAP_BYTES = 512;

/** Most differences that one page is put together from; QEMU makes no more than one a round. */
const MAX_DIFFERENCES = 100_000;

/**
 * A plain migration stream, opened for reading any page of it: one pass over the file remembers where the newest
 * record of each page is.
 */
export class StreamImage implements SavedVm<StreamBlock> {
  readonly form = 'stream';
  readonly configuration: StreamConfiguration;
  readonly pageSize: number;
  readonly blocks: readonly StreamBlock[];
  readonly guestMap: GuestMap;
  readonly complete: boolean;
  readonly rounds: number;
  readonly ramSectionId: number;
  readonly switchoverStart: boolean;
  readonly earlySectionBytes: Uint8Array;
  readonly devices: readonly DeviceSection[];
  readonly tail: StreamTail;
  readonly problems: readonly string[];
  private readonly index: PageIndex;

  private constructor(
    readonly source: ByteSource,
    readonly container: Container,
    parser: StreamParser,
    pass: IndexingPass,
    tail: StreamTail,
    problems: readonly string[],
    private readonly owner: AsyncDisposable | undefined,
  ) {
    this.index = pass.index;
    this.configuration = parser.configuration ?? { machine: '', capabilities: [] };
    this.pageSize = parser.pageSize;
    this.blocks = pass.blocks;
    const { rounds, ramSectionId = 0, switchoverStart } = pass.collector;
    this.rounds = rounds;
    this.ramSectionId = ramSectionId;
    this.switchoverStart = switchoverStart;
    this.tail = tail;
    const early = pass.collector.described(this.tail);
    this.earlySectionBytes = encodeSections(early);
    this.devices = [...early, ...this.tail.sections];
    this.guestMap = new GuestMap(this.configuration, pass.blocks, knownRegions(this));
    const marks = markProblems(container);
    this.complete = this.tail.complete && marks.length === 0;
    this.problems = [...marks, ...problems, ...this.contentProblems(pass), ...this.tail.problems];
  }

  /**
   * Reads the stream in `container` to its end, or to where it cannot be read any further.
   *
   * @throws MapramError `FORMAT`, `UNSUPPORTED` when not even its RAM blocks can be read; `IO`, `CANCELLED`
   */
  static async open(
    source: ByteSource,
    container: Container,
    { owner, signal, onProgress, problems: earlier = [] }: StreamImageOptions = {},
  ): Promise<StreamImage> {
    const { offset } = container;
    const parser = new StreamParser({ name: source.name, origin: offset });
    const pass = new IndexingPass(source);
    const problems = [...earlier];
    const started = performance.now();
    try {
      for (let position: number = offset; ; ) {
        signal?.throwIfAborted();
        const chunk = await source.read(fileOffset(position), CHUNK_BYTES);
        if (chunk.byteLength === 0) break;
        position += chunk.byteLength;
        pass.take(parser.push(chunk), parser.pageSize);
        const bytes = position - offset;
        const rate = Math.round((bytes / Math.max(1, performance.now() - started)) * 1000);
        onProgress?.({ phase: 'reading', bytes, totalBytes: source.byteLength - offset, pages: 0, rate });
      }
      pass.take(parser.end(), parser.pageSize);
    } catch (error) {
      const ofTheStream =
        error instanceof MapramError && (error.code === 'FORMAT' || error.code === 'UNSUPPORTED');
      if (!ofTheStream || pass.blocks.length === 0) {
        pass.index[Symbol.dispose]();
        throw error;
      }
      pass.take(parser.recovered(), parser.pageSize);
      problems.push(error.message);
    }
    const { tail, tailPosition: position = 0, footers } = pass.collector;
    const split = await splitTail(tail, { position, started: parser.started, footers });
    return new StreamImage(source, container, parser, pass, split, problems, owner);
  }

  get path(): string {
    return this.source.name;
  }

  get manifest(): unknown {
    const { description } = this.tail;
    return description && descriptionKey(description, MANIFEST_KEY);
  }

  block(idstr: string): StreamBlock | undefined {
    return this.blocks.find((block) => block.idstr === idstr);
  }

  runs({ index, pageCount }: StreamBlock, maximum?: number): Generator<PageRun, void, undefined> {
    return index.runs(0, pageCount, maximum);
  }

  async readPages(block: StreamBlock, first: number, count: number): Promise<Uint8Array> {
    const { pageSize, pageCount, idstr, index } = block;
    if (!(first >= 0 && count >= 0 && first + count <= pageCount)) {
      throw new RangeError(`pages ${first} to ${first + count} are outside ${idstr} of ${pageCount} pages`);
    }
    const contents = new Uint8Array(count * pageSize);
    let span: RawSpan | undefined;
    for (let page = first; page < first + count; page++) {
      const record = index.get(pageNumber(page));
      if (record === undefined) continue;
      const at = (page - first) * pageSize;
      if (record.kind !== 'raw') {
        contents.set(await this.readRecord(record, pageSize), at);
        continue;
      }
      const gap = span === undefined ? Number.NaN : record.position - span.end;
      if (span === undefined || !(gap >= 0 && gap <= MAX_GAP_BYTES)) {
        await this.copySpan(span, contents, pageSize);
        span = { start: record.position, end: record.position, pages: [] };
      }
      span.pages.push([record.position, at]);
      span.end = record.position + pageSize;
    }
    await this.copySpan(span, contents, pageSize);
    return contents;
  }

  read(address: number, length: number): Promise<Uint8Array> {
    return readGuestMemory(this, address, length);
  }

  async close(): Promise<void> {
    this.index[Symbol.dispose]();
    await this.owner?.[Symbol.asyncDispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Reads a stretch of the file once and takes its pages out of it. */
  private async copySpan(span: RawSpan | undefined, contents: Uint8Array, pageSize: number): Promise<void> {
    if (span === undefined) return;
    const bytes = await this.bytesAt(streamPosition(span.start), span.end - span.start);
    for (const [position, at] of span.pages) {
      const from = position - span.start;
      contents.set(bytes.subarray(from, from + pageSize), at);
    }
  }

  private async readRecord(record: PageRecord, pageSize: number): Promise<Uint8Array> {
    const differences: StreamPosition[] = [];
    let base: PageRecord | undefined = record;
    while (base?.kind === 'xbzrle') {
      differences.push(base.position);
      if (differences.length > MAX_DIFFERENCES) throw this.damaged(record, 'a page of too many differences');
      base = this.index.record(base.before);
    }
    const page = new Uint8Array(pageSize);
    if (base?.kind === 'raw') page.set(await this.bytesAt(base.position, pageSize));
    else if (base !== undefined) page.set(await this.inflated(base, pageSize));
    for (const position of differences.reverse()) {
      const length = Buffer.from(await this.bytesAt(streamPosition(position - 2), 2)).readUInt16BE();
      decodeXbzrle(await this.bytesAt(position, length), page);
    }
    return page;
  }

  private async inflated(record: PageRecord, pageSize: number): Promise<Uint8Array> {
    const length = Buffer.from(await this.bytesAt(streamPosition(record.position - 4), 4)).readUInt32BE();
    const compressed = await this.bytesAt(record.position, Math.min(length, maxCompressedBytes(pageSize)));
    try {
      const page = inflateSync(compressed, { maxOutputLength: pageSize });
      if (page.byteLength === pageSize) return page;
    } catch (error) {
      throw this.damaged(record, `a compressed page: ${errorReason(error)}`);
    }
    throw this.damaged(record, 'a compressed page that is too short');
  }

  private async bytesAt(position: StreamPosition, length: number): Promise<Uint8Array> {
    const bytes = await this.source.read(fileOffset(this.container.offset + position), length);
    if (bytes.byteLength < length) throw this.damaged({ position }, 'the file ends inside a page');
    return bytes;
  }

  private damaged({ position }: { position: StreamPosition }, problem: string): MapramError {
    return malformed(this.path, this.container.offset + position, problem, 'the file is damaged');
  }

  private *contentProblems({ mentioned, blocks }: IndexingPass): Generator<string> {
    const absent = blocks.filter(({ idstr, pageCount }) => pageCount > 0 && !mentioned.has(idstr));
    if (absent.length === 0 || !this.complete) return;
    if (this.configuration.capabilities.includes('x-ignore-shared')) {
      const names = absent.map(({ idstr }) => idstr).join(', ');
      yield `the pages of ${names} are not in it: it was saved with x-ignore-shared, they stayed in a file of their own`;
    } else if (mentioned.size === 0) {
      // A single block may have none: unplugged memory of virtio-mem is not sent.
      yield 'it holds no pages: they went over multifd channels of their own';
    }
  }
}

interface RawSpan {
  start: number;
  end: number;
  /** Position of each page, and its place in what is read. */
  pages: [number, number][];
}

/** Keeps where each page is. */
class IndexingPass {
  blocks: StreamBlock[] = [];
  readonly collector = new StreamCollector();
  /** Blocks that had any page, zero pages included. */
  readonly mentioned = new Set<string>();
  readonly index: PageIndex;
  readonly #indexes = new Map<RamBlock, BlockIndex>();

  constructor({ name, byteLength }: ByteSource) {
    this.index = new PageIndex(name, byteLength);
  }

  take(events: readonly StreamEvent[], pageSize: number): void {
    for (const event of events) {
      this.collector.take(event);
      switch (event.type) {
        case 'ram-blocks':
          for (const block of event.blocks) this.#addBlock(block, pageSize);
          break;
        case 'pages': {
          const index = this.#indexOf(event.block);
          for (const [number, position] of event.positions.entries()) {
            index.setRaw(pageNumber(event.offset / pageSize + number), streamPosition(position));
          }
          break;
        }
        case 'zero-pages':
          this.#indexOf(event.block).setZero(pageNumber(event.offset / pageSize), event.length / pageSize);
          break;
        case 'xbzrle-page':
          this.#indexOf(event.block).setDifference(
            pageNumber(event.offset / pageSize),
            streamPosition(event.position),
          );
          break;
        case 'compressed-page':
          this.#indexOf(event.block).setCompressed(
            pageNumber(event.offset / pageSize),
            streamPosition(event.position),
          );
          break;
      }
    }
  }

  #addBlock(block: RamBlock, pageSize: number): void {
    const { idstr, usedLength, guestAddress } = block;
    const index = this.index.addBlock(usedLength / pageSize);
    this.#indexes.set(block, index);
    this.blocks.push({
      idstr,
      usedLength,
      pageSize,
      pageCount: usedLength / pageSize,
      ...defined({ guestAddress }),
      index,
    });
  }

  #indexOf(block: RamBlock): BlockIndex {
    this.mentioned.add(block.idstr);
    return this.#indexes.get(block) as BlockIndex;
  }
}
