import { type FileOffset, fileOffset } from '../branded.js';
import { defined } from '../defined.js';
import { errorReason, MapramError } from '../errors.js';
import { truncateFile } from '../io/file/file-space.js';
import type { StreamConfiguration } from '../stream/configuration.js';
import { MAPPED_RAM_VERSION } from '../stream/mapped-ram-header.js';
import { StreamWriter } from '../stream/stream-writer.js';
import { MAX_BITMAP_BYTES, PageBitmap } from './bitmap.js';
import { type BlockLayout, type BlockShape, firstRecordOffset, layoutBlocks } from './layout.js';
import { writeFully } from './positional-write.js';

export interface ImageWriterOptions {
  /** Open for writing, buffered (not O_DIRECT). Stays the caller's to close. */
  fd: number;
  /** The file behind `fd`, for errors. */
  path: string;
  /** Where in the file the stream starts; what lies before is kept. 0 by default. */
  offset?: number;
  /** Must list `mapped-ram` among its capabilities. */
  configuration: StreamConfiguration;
  blocks: readonly BlockShape[];
  /** Bytes a page, 4096 by default. */
  pageSize?: number;
  /** Section id of RAM. Must differ from the ids in the device sections written later; QEMU 10.0 uses 1. */
  ramSectionId: number;
}

/** The word that ends the records of a RAM section. */
const MARK_BYTES = 8;

/** A RAM block of the file being written. */
export interface ImageWriterBlock extends BlockLayout {
  pageSize: number;
  /** Over shared memory: channels set a bit after they have written that page at `pagesOffset + page * pageSize`. */
  bitmap: PageBitmap;
}

/**
 * The main channel's side of a mapped-ram save: everything in the file but the pages.
 *
 * The steps and their order are those of QEMU 10.0: `writeStart`, any number of `writePart`, `writeEnd` once all
 * pages are on their way and the bitmaps final, `writeSections` for the devices, `finish`. Bitmaps go to the file in
 * `writeEnd` only, so a save that was broken off leaves them empty, and no EOF.
 *
 * Nothing is ever read from `fd`, and its file position does not matter: all writes are positional.
 */
export class ImageWriter {
  readonly blocks: readonly ImageWriterBlock[];
  readonly offset: FileOffset;
  readonly pageSize: number;
  /** Where the bytes behind the last page start: EOS of the START section. */
  readonly pagesEnd: FileOffset;
  /** File offset at which the main channel writes next. */
  position: number;
  /** Bytes written so far: all of the stream but the pages. */
  streamBytes = 0;
  /** Of them, those that QEMU counts as RAM: bitmaps, and the mark at the end of each round over RAM. */
  ramBytes = 0;

  private constructor(private readonly options: ImageWriterOptions) {
    this.offset = fileOffset(options.offset ?? 0);
    this.pageSize = options.pageSize ?? 4096;
    const firstRecord = firstRecordOffset(this.offset, options.configuration);
    this.blocks = layoutBlocks(options.blocks, firstRecord, this.pageSize).map((layout) => ({
      ...layout,
      pageSize: this.pageSize,
      bitmap: PageBitmap.shared(layout.pageCount),
    }));
    this.pagesEnd = this.blocks.at(-1)?.pagesEnd ?? firstRecord;
    this.position = this.offset;
  }

  /**
   * Lays the file out and cuts it at `offset`, so that nothing of an older file shows through.
   *
   * @throws MapramError `USAGE` when the configuration lacks `mapped-ram` or has no blocks, `IO` when cutting fails
   */
  static async create(options: ImageWriterOptions): Promise<ImageWriter> {
    const { fd, path, configuration, blocks } = options;
    if (!configuration.capabilities.includes('mapped-ram')) {
      throw new MapramError(
        'USAGE',
        `writing ${path}: the configuration does not list the capability mapped-ram`,
      );
    }
    if (blocks.length === 0) throw new MapramError('USAGE', `writing ${path}: there is no RAM block to save`);
    const { pageSize = 4096 } = options;
    const bitmapBytes = blocks.reduce(
      (sum, { usedLength }) => sum + PageBitmap.byteLength(usedLength / pageSize),
      0,
    );
    if (bitmapBytes > MAX_BITMAP_BYTES) {
      throw new MapramError(
        'UNSUPPORTED',
        `writing ${path}: the VM has more than ${MAX_BITMAP_BYTES * 8} pages, more than a file can be read with`,
        { path },
      );
    }
    const writer = new ImageWriter(options);
    writer.truncate(fd, writer.offset);
    return writer;
  }

  /** The block called `idstr`. */
  block(idstr: string): ImageWriterBlock | undefined {
    return this.blocks.find((block) => block.idstr === idstr);
  }

  /** Stream header, configuration, and the START section with all blocks' headers. */
  async writeStart(): Promise<void> {
    const { configuration, ramSectionId } = this.options;
    const opening = new StreamWriter().header().configuration(configuration).ramStart(ramSectionId);
    opening.ramTotal(this.blocks.reduce((total, block) => total + block.usedLength, 0));
    await this.append(opening);
    for (const [index, block] of this.blocks.entries()) {
      const { guestAddress } = this.options.blocks[index] as BlockShape;
      await this.append(
        new StreamWriter().ramBlock({
          idstr: block.idstr,
          usedLength: block.usedLength,
          ...defined({ guestAddress }),
          mappedRam: {
            version: MAPPED_RAM_VERSION,
            pageSize: this.pageSize,
            bitmapOffset: block.bitmapOffset,
            pagesOffset: block.pagesOffset,
            recordOffset: block.recordOffset,
            headerOffset: block.headerOffset,
          },
        }),
      );
      this.position = block.pagesEnd;
    }
    await this.append(new StreamWriter().ramEos().sectionFooter(ramSectionId));
  }

  /** The empty PART section with which QEMU marks each round over RAM. */
  async writePart(): Promise<void> {
    const { ramSectionId } = this.options;
    await this.append(new StreamWriter().sectionPart(ramSectionId).ramEos().sectionFooter(ramSectionId));
    this.ramBytes += MARK_BYTES;
  }

  /**
   * The END section and the bitmaps as they are now. All pages must have been written.
   *
   * @param options.switchoverStart whether the SWITCHOVER_START command goes before it, as machine types from 10.0 on
   *   have it
   */
  async writeEnd(options: { switchoverStart: boolean }): Promise<void> {
    const { fd, path, ramSectionId } = this.options;
    const opening = new StreamWriter();
    if (options.switchoverStart) opening.switchoverStart();
    await this.append(opening.sectionEnd(ramSectionId));
    for (const { bitmap, bitmapOffset } of this.blocks) {
      await writeFully(fd, bitmap.bytes, bitmapOffset, path);
      this.streamBytes += bitmap.bytes.byteLength;
      this.ramBytes += bitmap.bytes.byteLength;
    }
    this.ramBytes += MARK_BYTES;
    await this.append(new StreamWriter().ramEos().sectionFooter(ramSectionId));
  }

  /**
   * Device sections in stream format, footers included, e.g. as another stream had them: right after `writeStart`
   * those that a device must have before RAM is in use (`MappedRamImage.earlySectionBytes`), the others after `writeEnd`.
   */
  async writeSections(bytes: Uint8Array): Promise<void> {
    await this.append(new StreamWriter().raw(bytes));
  }

  /**
   * EOF and the vmdescription (JSON text); cuts off whatever the file had behind.
   *
   * @returns the length of the file
   */
  async finish(vmdescription?: string | Uint8Array): Promise<number> {
    const closing = new StreamWriter().eof();
    if (vmdescription !== undefined) closing.vmdescription(vmdescription);
    await this.append(closing);
    this.truncate(this.options.fd, this.position);
    return this.position;
  }

  private async append(stream: StreamWriter): Promise<void> {
    const bytes = stream.drainBytes();
    await writeFully(this.options.fd, bytes, this.position, this.options.path);
    this.position += bytes.byteLength;
    this.streamBytes += bytes.byteLength;
  }

  private truncate(fd: number, length: number): void {
    const { path } = this.options;
    try {
      truncateFile(fd, length);
    } catch (cause) {
      const message = `cutting ${path} at ${length} bytes: ${errorReason(cause)}`;
      throw new MapramError('IO', message, { path, cause });
    }
  }
}
