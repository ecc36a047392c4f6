import { ByteBuilder } from './byte-builder.js';
import { encodeConfiguration, type StreamConfiguration } from './configuration.js';
import {
  COMMANDS,
  RAM_SECTION_IDSTR,
  RAM_SECTION_VERSION,
  RamFlag,
  SECTION_TYPE_OF_KIND,
  type SectionKind,
  SectionType,
  STREAM_MAGIC,
  STREAM_VERSION,
  type StreamCommandName,
} from './format.js';
import { encodeMappedRamHeader } from './mapped-ram-header.js';
import { BLOCK_NAME_BYTES, PAGE_WORD_BYTES, RecordEncoder } from './page-records.js';
import type { RamBlock } from './ram-block.js';

/** What opens a START or FULL section. */
export interface SectionOpening {
  sectionId: number;
  idstr: string;
  instanceId: number;
  versionId: number;
}

/**
 * Writes a migration stream piece by piece: each method appends, `drain()` hands out what has been appended as
 * a list for one `writev`. Page contents are passed through as given, never copied.
 *
 * The order of the parts is the caller's; `format.ts` shows QEMU's.
 */
export class StreamWriter {
  /** Bytes appended since the start, drained ones included. */
  position = 0;
  private pieces: Uint8Array[] = [];
  private pending = new ByteBuilder();
  private readonly records = new RecordEncoder();

  /** Magic and version. */
  header(): this {
    return this.append((to) => to.uint32(STREAM_MAGIC).uint32(STREAM_VERSION));
  }

  configuration(configuration: StreamConfiguration): this {
    return this.append((to) => to.raw(encodeConfiguration(configuration)));
  }

  sectionStart(opening: SectionOpening): this {
    return this.opening('start', opening);
  }

  sectionPart(sectionId: number): this {
    return this.append((to) => to.uint8(SectionType.PART).uint32(sectionId));
  }

  sectionEnd(sectionId: number): this {
    return this.append((to) => to.uint8(SectionType.END).uint32(sectionId));
  }

  /** A whole FULL section: opening, `data`, footer. */
  sectionFull(opening: SectionOpening, data: Uint8Array): this {
    return this.opening('full', opening).raw(data).sectionFooter(opening.sectionId);
  }

  sectionFooter(sectionId: number): this {
    return this.append((to) => to.uint8(SectionType.FOOTER).uint32(sectionId));
  }

  /** Opens the START section of RAM; `ramBlocks`, `ramEos` and a footer belong after it. */
  ramStart(sectionId: number): this {
    return this.sectionStart({
      sectionId,
      idstr: RAM_SECTION_IDSTR,
      instanceId: 0,
      versionId: RAM_SECTION_VERSION,
    });
  }

  /** The word that says how many bytes of RAM the block list names. `ramBlock` for each block follows. */
  ramTotal(totalBytes: number): this {
    return this.append((to) => to.uint64(totalBytes + RamFlag.MEM_SIZE));
  }

  /** One block's record: name, length, what else it has, mapped-ram header last. */
  ramBlock(block: RamBlock): this {
    return this.append((to) => {
      to.str8(block.idstr).uint64(block.usedLength);
      if (block.blockPageSize !== undefined) to.uint64(block.blockPageSize);
      if (block.guestAddress !== undefined) to.uint64(block.guestAddress);
      if (block.mappedRam !== undefined) to.raw(encodeMappedRamHeader(block.mappedRam));
    });
  }

  /** The whole block list of a stream without mapped-ram. */
  ramBlocks(blocks: readonly RamBlock[]): this {
    this.ramTotal(blocks.reduce((total, block) => total + block.usedLength, 0));
    for (const block of blocks) this.ramBlock(block);
    return this;
  }

  /** A page with its contents; `page` is kept, not copied, until drained. */
  page(block: string, offset: number, page: Uint8Array): this {
    return this.pageWord(block, offset, RamFlag.PAGE).pass(page);
  }

  zeroPage(block: string, offset: number): this {
    return this.pageWord(block, offset, RamFlag.ZERO).append((to) => to.uint8(0));
  }

  /** A page as its difference from what it was before, see `encodeXbzrle`. */
  xbzrlePage(block: string, offset: number, encoded: Uint8Array): this {
    return this.pageWord(block, offset, RamFlag.XBZRLE).append((to) =>
      to.uint8(1).uint16(encoded.byteLength).raw(encoded),
    );
  }

  /** A page as one zlib stream, as `compress` of QEMU 9.0 and older sends it. */
  compressedPage(block: string, offset: number, compressed: Uint8Array): this {
    return this.pageWord(block, offset, RamFlag.COMPRESS_PAGE).append((to) =>
      to.uint32(compressed.byteLength).raw(compressed),
    );
  }

  multifdFlush(): this {
    return this.append((to) => to.uint64(RamFlag.MULTIFD_FLUSH));
  }

  /** Ends the records of a RAM section; its footer follows. */
  ramEos(): this {
    return this.append((to) => to.uint64(RamFlag.EOS));
  }

  command(name: StreamCommandName, data: Uint8Array = new Uint8Array(0)): this {
    const { value, length } = COMMANDS[name];
    if (length !== undefined && length !== data.byteLength) {
      throw new RangeError(`command ${name} takes ${length} bytes of data, not ${data.byteLength}`);
    }
    return this.append((to) => to.uint8(SectionType.COMMAND).uint16(value).uint16(data.byteLength).raw(data));
  }

  /** The PACKAGED command with the stream that it wraps. */
  packaged(stream: Uint8Array): this {
    return this.command('packaged', new ByteBuilder(4).uint32(stream.byteLength).finish()).pass(stream);
  }

  switchoverStart(): this {
    return this.command('switchover-start');
  }

  eof(): this {
    return this.append((to) => to.uint8(SectionType.EOF));
  }

  /** The trailing description, JSON as text. Belongs after `eof`. */
  vmdescription(json: string | Uint8Array): this {
    const bytes = typeof json === 'string' ? new TextEncoder().encode(json) : json;
    return this.append((to) => to.uint8(SectionType.VMDESCRIPTION).uint32(bytes.byteLength)).pass(bytes);
  }

  /** Bytes that are already in stream format, e.g. device sections of another stream. */
  raw(bytes: Uint8Array): this {
    return this.pass(bytes);
  }

  /** Everything appended since the last call, in order. */
  drain(): Uint8Array[] {
    this.seal();
    const { pieces } = this;
    this.pieces = [];
    return pieces;
  }

  /** `drain()` as one array. */
  drainBytes(): Uint8Array {
    return concatenate(this.drain());
  }

  /** Opens a START or FULL section; its data and a footer belong after it. */
  opening(kind: 'start' | 'full', { sectionId, idstr, instanceId, versionId }: SectionOpening): this {
    return this.append((to) =>
      to.uint8(SECTION_TYPE_OF_KIND[kind]).uint32(sectionId).str8(idstr).uint32(instanceId).uint32(versionId),
    );
  }

  private pageWord(block: string, offset: number, flag: number): this {
    const word = Buffer.alloc(PAGE_WORD_BYTES + BLOCK_NAME_BYTES);
    const end = this.records.word(word, 0, block, offset, flag);
    return this.append((to) => to.raw(word.subarray(0, end)));
  }

  private append(write: (to: ByteBuilder) => void): this {
    const before = this.pending.length;
    write(this.pending);
    this.position += this.pending.length - before;
    return this;
  }

  private pass(bytes: Uint8Array): this {
    this.seal();
    if (bytes.byteLength > 0) this.pieces.push(bytes);
    this.position += bytes.byteLength;
    return this;
  }

  private seal(): void {
    if (this.pending.length === 0) return;
    this.pieces.push(this.pending.finish());
    this.pending = new ByteBuilder(64);
  }
}

export function concatenate(pieces: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(pieces.reduce((total, piece) => total + piece.byteLength, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.byteLength;
  }
  return whole;
}

/** Sections in stream format, each with its footer. */
export function encodeSections(
  sections: readonly (SectionOpening & { kind: SectionKind; data: Uint8Array })[],
): Uint8Array {
  const writer = new StreamWriter();
  for (const { kind, data, ...opening } of sections) {
    if (kind === 'full') writer.sectionFull(opening, data);
    else {
      if (kind === 'start') writer.sectionStart(opening);
      else if (kind === 'part') writer.sectionPart(opening.sectionId);
      else writer.sectionEnd(opening.sectionId);
      writer.raw(data).sectionFooter(opening.sectionId);
    }
  }
  return writer.drainBytes();
}
