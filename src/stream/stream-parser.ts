import { MapramError } from '../errors.js';
import { ByteQueue } from './byte-queue.js';
import {
  CONFIGURATION_SUBSECTION_PREFIX,
  ConfigurationSubsection,
  type StreamConfiguration,
} from './configuration.js';
import { FOOTER_LOOKAHEAD_BYTES, findFooter } from './footer-search.js';
import {
  COMMANDS,
  commandName,
  defaultPageSize,
  maxCompressedBytes,
  RAM_SECTION_IDSTR,
  RAM_SECTION_VERSION,
  RamFlag,
  SectionType,
  STREAM_MAGIC,
  STREAM_VERSION,
  StreamLimit,
} from './format.js';
import { malformed } from './malformed.js';
import {
  decodeMappedRamHeader,
  isPageSize,
  MAPPED_RAM_HEADER_BYTES,
  MAPPED_RAM_VERSION,
} from './mapped-ram-header.js';
import type { RamBlock } from './ram-block.js';
import type { PagesEvent, SectionEvent, StreamEvent, ZeroPagesEvent } from './stream-event.js';

export interface StreamParserOptions {
  /** What is read, for error messages. */
  name?: string;
  /** Where in its file the stream starts; mapped-ram offsets count from the start of the file. 0 by default. */
  origin?: number;
  /**
   * Target page size in bytes. By default the configuration's target-page-bits, else that of the machine type,
   * until a mapped-ram header tells.
   */
  pageSize?: number;
}

/** Sections before RAM are far smaller than this. */
const LARGE_SECTION_BYTES = 1 << 20;

/** A run of pages is handed out when it has this many, within what one `writev` takes. */
const MAX_PAGES_AN_EVENT = 512;

/**
 * The incremental parser of a migration stream: bytes in, events out, no I/O and no waiting.
 *
 * `push` takes whatever has arrived and returns what could be read from it. Of neighbouring pages one event is made,
 * but never held back beyond the push that brought them. After RAM everything is passed through as
 * `tail` events, because device sections cannot be delimited before the vmdescription behind them is known.
 *
 * In a mapped-ram stream, page areas are jumped over: `skippable` says how many of the bytes that come next need not be
 * delivered; a file reader goes on `skipped` bytes further, a pipe reader just pushes them.
 */
export class StreamParser {
  readonly blocks: RamBlock[] = [];
  configuration: StreamConfiguration | undefined;
  /** Target page size in bytes as known so far. */
  pageSize: number;

  private readonly queue = new ByteQueue();
  private readonly name: string;
  private readonly origin: number;
  private readonly sections = new Map<number, SectionEvent>();
  private readonly steps: Generator<void, void, undefined>;
  private readonly blocksByName = new Map<string, RamBlock>();
  private events: StreamEvent[] = [];
  private run: PagesEvent | ZeroPagesEvent | undefined;
  /** Offset in the block at which a page would prolong `run`. */
  private runEnd = 0;
  private block: RamBlock | undefined;
  private where = 'the stream header';
  private ended = false;
  private inTail = false;
  private inRounds = false;
  private postcopyAdvised = false;
  /** Bytes of everything but RAM so far. */
  private deviceBytes = 0;

  constructor(private readonly options: StreamParserOptions = {}) {
    this.name = options.name ?? 'the migration stream';
    this.origin = options.origin ?? 0;
    this.pageSize = options.pageSize ?? 4096;
    this.steps = this.stream();
  }

  /** All sections that have started so far. */
  get started(): Iterable<SectionEvent> {
    return this.sections.values();
  }

  /** Bytes read so far, those jumped over included. */
  get position(): number {
    return this.queue.position;
  }

  /** How many of the bytes that come next will be dropped. */
  get skippable(): number {
    return this.queue.skippable;
  }

  /** Tells that `length` of the `skippable` bytes will not be pushed. */
  skipped(length: number): void {
    if (length > this.queue.skippable) throw new RangeError(`${length} bytes cannot be skipped here`);
    this.queue.skippable -= length;
  }

  /**
   * Reads on with `chunk`.
   *
   * @throws MapramError `FORMAT` for bytes that are not a migration stream, `UNSUPPORTED` for what this parser cannot
   *   read. The parser is of no use afterwards.
   */
  push(chunk: Uint8Array): StreamEvent[] {
    this.queue.push(chunk);
    return this.advance();
  }

  /** What had been read before `push` or `end` threw. */
  recovered(): StreamEvent[] {
    this.flushRun();
    const { events } = this;
    this.events = [];
    return events;
  }

  /** Copies the bytes not read yet, so that the memory of all chunks pushed so far may be reused. */
  detach(): void {
    this.queue.detach();
  }

  /**
   * Tells that no more bytes will come.
   *
   * @throws MapramError `FORMAT` when the stream is cut short, i.e. RAM's END section has not been read
   */
  end(): StreamEvent[] {
    this.ended = true;
    if (this.queue.skippable > 0) throw this.truncated();
    return this.advance();
  }

  private advance(): StreamEvent[] {
    this.steps.next();
    return this.recovered();
  }

  // Every `yield` means: not enough bytes yet.

  private *need(length: number): Generator<void, void, undefined> {
    while (this.queue.available < length) {
      if (this.ended) throw this.truncated();
      yield;
    }
  }

  private *stream(): Generator<void, void, undefined> {
    const { queue } = this;
    yield* this.need(8);
    const magic = queue.uint32();
    if (magic !== STREAM_MAGIC)
      throw this.malformed(`it is not a migration stream, the magic QEVM is missing`, 0);
    const version = queue.uint32();
    if (version !== STREAM_VERSION) {
      throw new MapramError(
        'UNSUPPORTED',
        `reading ${this.name}: migration stream version ${version} is not supported, only ${STREAM_VERSION} is`,
        { offset: 4 },
      );
    }
    this.events.push({ type: 'header', version });
    this.where = 'the list of sections';
    yield* this.need(1);
    if (queue.peekUint8() === SectionType.CONFIGURATION) yield* this.readConfiguration();
    while (!this.inTail) {
      yield* this.need(1);
      yield* this.part();
    }
    for (;;) {
      while (queue.available > 0) {
        const { position } = queue;
        this.countDeviceBytes(queue.chunkAvailable, position);
        this.events.push({ type: 'tail', data: queue.takeChunk(), position });
      }
      if (this.ended) return;
      yield;
    }
  }

  private *part(): Generator<void, void, undefined> {
    const { queue } = this;
    const { position } = queue;
    // Background snapshots have no END section: devices follow the last round of RAM at once.
    if (this.inRounds && queue.peekUint8() === SectionType.FULL) {
      this.inTail = true;
      return;
    }
    const type = queue.uint8();
    switch (type) {
      case SectionType.START:
      case SectionType.FULL:
        yield* this.openingSection(type === SectionType.START ? 'start' : 'full', position);
        break;
      case SectionType.PART:
      case SectionType.END: {
        yield* this.need(4);
        const sectionId = queue.uint32();
        const start = this.sections.get(sectionId);
        if (start === undefined)
          throw this.malformed(`section ${sectionId} goes on but never started`, position);
        const kind = type === SectionType.PART ? 'part' : 'end';
        if (start.idstr === RAM_SECTION_IDSTR) this.inRounds = true;
        yield* this.section({ ...start, kind, position });
        break;
      }
      case SectionType.COMMAND:
        yield* this.command(position);
        break;
      case SectionType.EOF:
        throw this.malformed('the stream ends without its RAM section', position);
      default:
        throw this.malformed(`there is no section type 0x${type.toString(16)}`, position);
    }
  }

  private *openingSection(kind: 'start' | 'full', position: number): Generator<void, void, undefined> {
    const { queue } = this;
    yield* this.need(5);
    const sectionId = queue.uint32();
    const idstr = yield* this.str8();
    yield* this.need(8);
    const instanceId = queue.uint32();
    const versionId = queue.uint32();
    const section: SectionEvent = {
      type: 'section',
      kind,
      sectionId,
      idstr,
      instanceId,
      versionId,
      position,
    };
    if (this.sections.has(sectionId)) throw this.malformed(`section ${sectionId} starts twice`, position);
    this.sections.set(sectionId, section);
    yield* this.section(section);
  }

  private *section(section: SectionEvent): Generator<void, void, undefined> {
    const { queue } = this;
    if (section.idstr !== RAM_SECTION_IDSTR)
      this.countDeviceBytes(StreamLimit.SECTION_BYTES, section.position);
    this.events.push(section);
    this.where = `the ${section.kind.toUpperCase()} section of ${section.idstr}`;
    if (section.idstr === RAM_SECTION_IDSTR && section.kind !== 'full') {
      if (section.versionId !== RAM_SECTION_VERSION) {
        throw new MapramError(
          'UNSUPPORTED',
          `reading ${this.name}: RAM section version ${section.versionId} is not supported, only ${RAM_SECTION_VERSION} is`,
        );
      }
      yield* this.ramRecords();
    } else yield* this.opaqueData(section);
    let footer = false;
    // Behind RAM's END the stream may end, if there are neither footers nor devices.
    const last = section.idstr === RAM_SECTION_IDSTR && section.kind === 'end';
    while (queue.available === 0 && !this.ended) yield;
    if (!last) yield* this.need(1);
    if (queue.available > 0 && queue.peekUint8() === SectionType.FOOTER) {
      yield* this.need(5);
      const { position } = queue;
      queue.uint8();
      const closed = queue.uint32();
      if (closed !== section.sectionId) {
        throw this.malformed(`the footer of section ${section.sectionId} names section ${closed}`, position);
      }
      footer = true;
    }
    this.flushRun();
    this.events.push({ type: 'section-end', sectionId: section.sectionId, footer });
    this.where = 'the list of sections';
    if (last) this.inTail = true;
  }

  private *opaqueData(section: SectionEvent): Generator<void, void, undefined> {
    const { queue } = this;
    const { position } = queue;
    let searched = 0;
    for (;;) {
      const bytes = queue.peek(queue.available);
      const end = findFooter(bytes, section.sectionId, {
        from: searched,
        started: this.sections,
        atEnd: this.ended,
      });
      if (end !== -1) {
        this.countDeviceBytes(end, position);
        this.events.push({
          type: 'opaque-section',
          kind: section.kind,
          sectionId: section.sectionId,
          idstr: section.idstr,
          data: queue.take(end),
          position,
        });
        return;
      }
      if (this.ended) throw this.truncated();
      this.countDeviceBytes(0, position, bytes.byteLength);
      if (bytes.byteLength > StreamLimit.UNDELIMITED_SECTION_BYTES) {
        throw this.malformed(
          `section ${section.idstr} has no end within ${StreamLimit.UNDELIMITED_SECTION_BYTES} bytes`,
          position,
        );
      }
      searched = Math.max(searched, bytes.byteLength - FOOTER_LOOKAHEAD_BYTES);
      // Growing steps keep the search linear however small the chunks are; what is larger than any section that QEMU
      // writes is gone through in few of them, since each copies all bytes so far.
      const step = bytes.byteLength < LARGE_SECTION_BYTES ? bytes.byteLength >> 4 : bytes.byteLength;
      const most = StreamLimit.UNDELIMITED_SECTION_BYTES + 1;
      const wanted = Math.min(bytes.byteLength + Math.max(1, step), Math.max(most, bytes.byteLength + 1));
      while (queue.available < wanted && !this.ended) yield;
    }
  }

  private *command(position: number): Generator<void, void, undefined> {
    const { queue } = this;
    this.where = 'a command';
    yield* this.need(4);
    const value = queue.uint16();
    const length = queue.uint16();
    const name = commandName(value);
    const expected = name === undefined ? undefined : COMMANDS[name].length;
    if (expected !== undefined && length !== expected) {
      throw this.malformed(`command ${name} has ${length} bytes of data instead of ${expected}`, position);
    }
    this.countDeviceBytes(StreamLimit.SECTION_BYTES + length, position);
    yield* this.need(length);
    const data = queue.take(length);
    const event: StreamEvent = { type: 'command', value, name, data, position };
    if (name === 'packaged') {
      const size = new DataView(data.buffer, data.byteOffset).getUint32(0);
      this.countDeviceBytes(size, position);
      yield* this.need(size);
      event.packaged = queue.take(size);
    }
    if (name === 'postcopy-advise') this.postcopyAdvised = true;
    this.events.push(event);
    this.where = 'the list of sections';
  }

  private *readConfiguration(): Generator<void, void, undefined> {
    const { queue } = this;
    this.where = 'the configuration';
    const start = queue.position;
    queue.uint8();
    yield* this.need(4);
    const length = queue.uint32();
    if (length > StreamLimit.MACHINE_NAME_BYTES)
      throw this.malformed(`a machine name of ${length} bytes`, start);
    yield* this.need(length);
    const configuration: StreamConfiguration = { machine: text(queue.take(length)), capabilities: [] };
    for (;;) {
      yield* this.need(1);
      if (queue.peekUint8() !== SectionType.SUBSECTION) break;
      const { position } = queue;
      queue.uint8();
      const name = yield* this.str8();
      yield* this.need(4);
      const version = queue.uint32();
      if (version !== 1) throw this.malformed(`${name} has version ${version} instead of 1`, position);
      switch (name) {
        case ConfigurationSubsection.TARGET_PAGE_BITS: {
          yield* this.need(4);
          const bits = queue.uint32();
          if (bits < 9 || bits > 16) throw this.malformed(`target-page-bits of ${bits}`, position);
          configuration.targetPageBits = bits;
          break;
        }
        case ConfigurationSubsection.CAPABILITIES: {
          yield* this.need(4);
          const count = queue.uint32();
          if (count > StreamLimit.CAPABILITIES)
            throw this.malformed(`a list of ${count} capabilities`, position);
          for (let index = 0; index < count; index++) configuration.capabilities.push(yield* this.str8());
          break;
        }
        case ConfigurationSubsection.UUID:
          yield* this.need(16);
          configuration.uuid = queue.take(16).slice();
          break;
        default:
          if (!name.startsWith(CONFIGURATION_SUBSECTION_PREFIX)) {
            throw this.malformed(`"${name}" is no subsection of the configuration`, position);
          }
          throw new MapramError('UNSUPPORTED', `reading ${this.name}: the subsection ${name} is not known`);
      }
    }
    if (this.options.pageSize === undefined) {
      this.pageSize =
        configuration.targetPageBits === undefined
          ? defaultPageSize(configuration.machine)
          : 2 ** configuration.targetPageBits;
    }
    this.configuration = configuration;
    this.events.push({ type: 'configuration', configuration });
    this.where = 'the list of sections';
  }

  private *ramRecords(): Generator<void, void, undefined> {
    const { queue } = this;
    for (;;) {
      const { pageSize } = this;
      if (queue.available < 8) yield* this.need(8);
      const { position } = queue;
      const high = queue.uint32();
      const low = queue.uint32();
      const flags = low & (pageSize - 1);
      const offset = high * 2 ** 32 + ((low & -pageSize) >>> 0);
      switch (flags & ~RamFlag.CONTINUE) {
        case RamFlag.PAGE: {
          const block = (flags & RamFlag.CONTINUE) !== 0 ? this.block : yield* this.namedBlock();
          this.checkPage(block, offset, position);
          if (queue.available < pageSize) yield* this.need(pageSize);
          const { position: dataPosition } = queue;
          this.addPage(block as RamBlock, offset, queue.take(pageSize), dataPosition);
          break;
        }
        case RamFlag.ZERO: {
          const block = (flags & RamFlag.CONTINUE) !== 0 ? this.block : yield* this.namedBlock();
          this.checkPage(block, offset, position);
          if (queue.available < 1) yield* this.need(1);
          const fill = queue.uint8();
          if (fill !== 0) throw this.malformed(`a zero page is filled with ${fill}`, position);
          this.addZeroPage(block as RamBlock, offset);
          break;
        }
        case RamFlag.EOS:
          this.flushRun();
          this.events.push({ type: 'ram-eos' });
          return;
        case RamFlag.MEM_SIZE:
          yield* this.ramBlocks(offset, position);
          break;
        case RamFlag.MULTIFD_FLUSH:
          this.flushRun();
          this.events.push({ type: 'multifd-flush' });
          break;
        case RamFlag.XBZRLE: {
          const block = (flags & RamFlag.CONTINUE) !== 0 ? this.block : yield* this.namedBlock();
          this.checkPage(block, offset, position);
          yield* this.need(3);
          const encoding = queue.uint8();
          const length = queue.uint16();
          if (encoding !== 1 || length > pageSize) {
            throw this.malformed(`an XBZRLE page of encoding ${encoding} and ${length} bytes`, position);
          }
          yield* this.need(length);
          this.flushRun();
          this.events.push({
            type: 'xbzrle-page',
            block: block as RamBlock,
            offset,
            position: queue.position,
            encoded: queue.take(length),
          });
          break;
        }
        case RamFlag.COMPRESS_PAGE: {
          const block = (flags & RamFlag.CONTINUE) !== 0 ? this.block : yield* this.namedBlock();
          this.checkPage(block, offset, position);
          yield* this.need(4);
          const length = queue.uint32();
          if (length === 0 || length > maxCompressedBytes(pageSize)) {
            throw this.malformed(`a compressed page of ${length} bytes`, position);
          }
          yield* this.need(length);
          this.flushRun();
          this.events.push({
            type: 'compressed-page',
            block: block as RamBlock,
            offset,
            position: queue.position,
            compressed: queue.take(length),
          });
          break;
        }
        case RamFlag.HOOK:
          throw new MapramError(
            'UNSUPPORTED',
            `reading ${this.name}: the stream has RDMA records at offset ${position}; save without RDMA`,
            { offset: position },
          );
        default:
          throw this.malformed(`a RAM record has the flags 0x${flags.toString(16)}`, position);
      }
    }
  }

  private *namedBlock(): Generator<void, RamBlock, undefined> {
    const { position } = this.queue;
    const idstr = yield* this.str8();
    const block = this.blocksByName.get(idstr);
    if (block === undefined) throw this.malformed(`RAM block "${idstr}" is not in the block list`, position);
    this.block = block;
    return block;
  }

  private checkPage(block: RamBlock | undefined, offset: number, position: number): void {
    if (block === undefined) throw this.malformed('the first page continues no RAM block', position);
    if (offset + this.pageSize > block.usedLength) {
      throw this.malformed(
        `a page at ${offset} is outside RAM block ${block.idstr} of ${block.usedLength} bytes`,
        position,
      );
    }
  }

  private addPage(block: RamBlock, offset: number, page: Uint8Array, position: number): void {
    const { run } = this;
    if (
      run?.type === 'pages' &&
      run.block === block &&
      offset === this.runEnd &&
      run.data.length < MAX_PAGES_AN_EVENT
    ) {
      run.data.push(page);
      run.positions.push(position);
    } else {
      this.flushRun();
      this.run = { type: 'pages', block, offset, data: [page], positions: [position] };
    }
    this.runEnd = offset + this.pageSize;
  }

  private addZeroPage(block: RamBlock, offset: number): void {
    const { run } = this;
    if (run?.type === 'zero-pages' && run.block === block && offset === this.runEnd)
      run.length += this.pageSize;
    else {
      this.flushRun();
      this.run = { type: 'zero-pages', block, offset, length: this.pageSize };
    }
    this.runEnd = offset + this.pageSize;
  }

  private flushRun(): void {
    if (this.run === undefined) return;
    this.events.push(this.run);
    this.run = undefined;
  }

  private *ramBlocks(totalBytes: number, start: number): Generator<void, void, undefined> {
    if (this.blocks.length > 0) throw this.malformed('a second list of RAM blocks', start);
    if (!Number.isSafeInteger(totalBytes)) throw this.malformed(`RAM of ${totalBytes} bytes`, start);
    for (let rest = totalBytes; rest > 0; ) {
      if (this.blocks.length === StreamLimit.RAM_BLOCKS) {
        throw this.malformed(`more than ${StreamLimit.RAM_BLOCKS} RAM blocks`, start);
      }
      const block = yield* this.ramBlock(rest);
      rest -= block.usedLength;
      this.blocks.push(block);
      this.blocksByName.set(block.idstr, block);
    }
    this.events.push({ type: 'ram-blocks', totalBytes, blocks: [...this.blocks] });
  }

  private *ramBlock(rest: number): Generator<void, RamBlock, undefined> {
    const { queue } = this;
    const { position } = queue;
    const capabilities = this.configuration?.capabilities ?? [];
    const ignoreShared = capabilities.includes('x-ignore-shared');
    const idstr = yield* this.str8();
    if (this.blocksByName.has(idstr)) throw this.malformed(`RAM block "${idstr}" is listed twice`, position);
    yield* this.need(8);
    const usedLength = queue.bigUint64();
    if (usedLength > BigInt(rest)) {
      throw this.malformed(
        `RAM block "${idstr}" of ${usedLength} bytes, only ${rest} are left of the total`,
        position,
      );
    }
    const block: RamBlock = { idstr, usedLength: Number(usedLength) };
    if (this.postcopyAdvised) {
      // Written only for blocks on huge pages, unannounced. Nothing else that can follow is a power of two above
      // the page size: names start with their length in the top byte, words with flags carry no address here.
      yield* this.need(8);
      const candidate = Number(new DataView(queue.peek(8).slice().buffer).getBigUint64(0));
      if (candidate > this.pageSize && candidate <= 2 ** 40 && Number.isInteger(Math.log2(candidate))) {
        queue.take(8);
        block.blockPageSize = candidate;
      }
    }
    if (capabilities.includes('mapped-ram')) yield* this.mappedRamHeader(block, position, ignoreShared);
    else if (ignoreShared) block.guestAddress = yield* this.guestAddress(position);
    if (block.usedLength % this.pageSize !== 0) {
      throw this.malformed(
        `RAM block "${idstr}" has ${usedLength} bytes, not a multiple of the page size ${this.pageSize}`,
        position,
      );
    }
    return block;
  }

  private *guestAddress(position: number): Generator<void, number, undefined> {
    yield* this.need(8);
    const address = Number(this.queue.bigUint64());
    if (!Number.isSafeInteger(address)) throw this.malformed(`guest address ${address}`, position);
    return address;
  }

  /**
   * The 28-byte header and the jump over the block's bitmap and pages. QEMU writes the guest address of
   * `x-ignore-shared` before the header, where its own reader does not expect it; behind the header is tolerated too.
   */
  private *mappedRamHeader(
    block: RamBlock,
    record: number,
    ignoreShared: boolean,
  ): Generator<void, void, undefined> {
    const { queue, origin } = this;
    if (ignoreShared) {
      yield* this.need(8 + MAPPED_RAM_HEADER_BYTES);
      const header = decodeMappedRamHeader(queue.peek(MAPPED_RAM_HEADER_BYTES));
      const headerFirst = header.version === MAPPED_RAM_VERSION && isPageSize(header.pageSize);
      if (!headerFirst) block.guestAddress = yield* this.guestAddress(record);
    }
    yield* this.need(MAPPED_RAM_HEADER_BYTES);
    const { position } = queue;
    const header = decodeMappedRamHeader(queue.take(MAPPED_RAM_HEADER_BYTES));
    const name = `the mapped-ram header of "${block.idstr}"`;
    if (header.version > MAPPED_RAM_VERSION) {
      throw new MapramError(
        'UNSUPPORTED',
        `reading ${this.name}: ${name} has version ${header.version}, only ${MAPPED_RAM_VERSION} is supported`,
        { offset: position },
      );
    }
    if (!isPageSize(header.pageSize))
      throw this.malformed(`${name} has page size ${header.pageSize}`, position);
    this.pageSize = header.pageSize;
    const afterHeader = origin + queue.position;
    if (ignoreShared && block.guestAddress === undefined && header.bitmapOffset === afterHeader + 8) {
      block.guestAddress = yield* this.guestAddress(record);
    }
    const pagesEnd = header.pagesOffset + block.usedLength;
    if (
      !Number.isSafeInteger(pagesEnd) ||
      header.bitmapOffset < afterHeader ||
      header.pagesOffset < header.bitmapOffset
    ) {
      throw this.malformed(
        `${name} places its bitmap at ${header.bitmapOffset} and its pages at ${header.pagesOffset}`,
        position,
      );
    }
    block.mappedRam = { ...header, recordOffset: origin + record, headerOffset: origin + position };
    queue.skip(pagesEnd - (origin + queue.position));
  }

  private *str8(): Generator<void, string, undefined> {
    const { queue } = this;
    yield* this.need(1);
    const length = queue.uint8();
    if (queue.available < length) yield* this.need(length);
    return text(queue.take(length));
  }

  /** @param coming bytes that are not counted yet, as they may turn out to be something else */
  private countDeviceBytes(length: number, position: number, coming = 0): void {
    this.deviceBytes += length;
    if (this.deviceBytes + coming <= StreamLimit.DEVICE_BYTES) return;
    throw this.malformed('more state of devices than is read, 64 MiB', position);
  }

  private truncated(): MapramError {
    const { position, available, skippable } = this.queue;
    return malformed(
      this.name,
      this.origin + position + available - skippable,
      `it ends inside ${this.where}`,
      'the save did not finish or the file was cut short',
    );
  }

  private malformed(problem: string, position: number): MapramError {
    return malformed(this.name, this.origin + position, problem, 'the file is damaged or not from QEMU');
  }
}

const utf8 = new TextDecoder();

function text(bytes: Uint8Array): string {
  // TextDecoder refuses views on shared memory.
  return utf8.decode(bytes.buffer instanceof SharedArrayBuffer ? bytes.slice() : bytes);
}
