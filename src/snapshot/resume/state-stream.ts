/**
 * Turns a mapped-ram image into the ordinary migration stream that a QEMU needs which has most of the RAM already, mapped from
 * that image or filled by others:
 *
 *     magic, version
 *     CONFIGURATION        as in the image, without the capability mapped-ram
 *     sections             of devices that come before RAM (virtio-mem), verbatim
 *     START ram            the list of all RAM blocks
 *     END ram              mapped blocks: a ZERO record for each stale slot, nothing else
 *                          filled blocks: nothing
 *                          other blocks (ROMs, video memory): every page, PAGE or ZERO
 *     sections             the device state, verbatim
 *     EOF, empty vmdescription
 *
 * A slot is stale when its page's bit is clear: the page is zero, but a live save may have left older contents in the
 * file, and these would show through a mapping. Stale slots are looked for where the file has data, since a hole reads as
 * zeros anyway: the time depends on what the file holds, not on the size of the RAM.
 */
import { defined } from '../../defined.js';
import { dataExtents } from '../../io/file/data-extents.js';
import { writeFully } from '../../io/file/positional-io.js';
import type { PageRun } from '../../mapped-ram/bitmap.js';
import type { ImageBlock, MappedRamImage } from '../../mapped-ram/image.js';
import { StreamWriter } from '../../stream/stream-writer.js';

export interface StateStream {
  /** Bytes of the whole stream. */
  byteLength: number;
  /** Where in the stream the records of pages end, and more can be put in. */
  pagesEnd: number;
  /** Where in the stream the sections of the devices begin. */
  sectionsPosition: number;
  /** Pages of mapped blocks that are to be zeroed, since their slots may hold something else. */
  zeroedPages: number;
  /** Pages of the blocks that are not mapped. */
  loadedPages: number;
}

/**
 * What the memory of a block is when the stream is loaded: a mapping of its page area in the image; `filled` with its pages;
 * `fresh`, so that the stream has to bring every page.
 */
export type BlockMemory = 'mapped' | 'filled' | 'fresh';

/** Bytes that take the place of as many others. */
export interface StatePatch {
  /** Counted from the start of the sections of the devices. */
  position: number;
  bytes: Uint8Array;
}

/** How much is gathered before it is written. */
const FLUSH_BYTES = 4 * 2 ** 20;
/** Pages read at once from a block that is not mapped. */
const READ_PAGES = 1024;

/**
 * Writes the stream for `image` into `target`, an empty file or memfd.
 *
 * @param file descriptor of the image, for seeking: its file position moves
 */
export async function writeStateStream(
  image: MappedRamImage,
  file: number,
  target: number,
  memoryOf: (block: ImageBlock) => BlockMemory,
): Promise<StateStream> {
  const { machine, targetPageBits } = image.configuration;
  const output = new PieceWriter(target);
  const { writer } = output;
  writer.header().configuration({
    machine,
    ...defined({ targetPageBits }),
    capabilities: [],
  });
  writer.raw(image.earlySectionBytes);
  writer.ramStart(image.ramSectionId);
  writer.ramBlocks(image.blocks.map(({ idstr, usedLength }) => ({ idstr, usedLength })));
  writer.ramEos().sectionFooter(image.ramSectionId);
  if (image.switchoverStart) writer.switchoverStart();
  writer.sectionEnd(image.ramSectionId);
  let zeroedPages = 0;
  let loadedPages = 0;
  for (const block of image.blocks) {
    const memory = memoryOf(block);
    if (memory === 'filled') continue;
    if (memory === 'mapped') {
      for (const { first, count } of staleRuns(block, file)) {
        for (let page = first; page < first + count; page++) {
          writer.zeroPage(block.idstr, page * block.pageSize);
        }
        zeroedPages += count;
        output.flushIfLarge();
      }
    } else {
      await writePages(image, block, { first: 0, count: block.pageCount }, output);
      loadedPages += block.pageCount;
    }
  }
  const pagesEnd = writer.position;
  writer.ramEos().sectionFooter(image.ramSectionId);
  // QEMU complains where there is no description, and does not look at one that is there.
  const sectionsPosition = writer.position;
  writer.raw(image.tail.sectionBytes).eof().vmdescription('{}');
  output.flush();
  return { byteLength: writer.position, pagesEnd, sectionsPosition, zeroedPages, loadedPages };
}

/** Runs of pages whose bit is clear although their slots, or parts of them, are not holes. */
function* staleRuns(block: ImageBlock, file: number): Generator<{ first: number; count: number }> {
  const { pagesOffset, usedLength, pageSize, bitmap } = block;
  let next = 0;
  for (const { start, end } of dataExtents(file, pagesOffset, pagesOffset + usedLength)) {
    // Two extents may touch the same page where the blocks of the file system are smaller than a page.
    const first = Math.max(next, Math.floor((start - pagesOffset) / pageSize));
    next = Math.ceil((end - pagesOffset) / pageSize);
    yield* bitmap.clearRuns(first, next);
  }
}

/** Records for pages as the image has them, to go into a stream where its other records end. */
export async function pageRecords(
  image: MappedRamImage,
  runs: readonly { block: ImageBlock; run: PageRun }[],
): Promise<Uint8Array> {
  const writer = new StreamWriter();
  for (const { block, run } of runs) await writePages(image, block, run, { writer, flushIfLarge: () => {} });
  return writer.drainBytes();
}

async function writePages(
  image: MappedRamImage,
  block: ImageBlock,
  run: PageRun,
  output: Pick<PieceWriter, 'writer' | 'flushIfLarge'>,
): Promise<void> {
  const { idstr, pageSize, bitmap } = block;
  const { writer } = output;
  const end = run.first + run.count;
  for (let first = run.first; first < end; first += READ_PAGES) {
    const count = Math.min(READ_PAGES, end - first);
    const contents = await image.readPages(block, first, count);
    for (let page = first; page < first + count; page++) {
      const at = (page - first) * pageSize;
      if (bitmap.test(page)) writer.page(idstr, page * pageSize, contents.subarray(at, at + pageSize));
      else writer.zeroPage(idstr, page * pageSize);
    }
    output.flushIfLarge();
  }
}

/** A stream writer whose pieces go to a file as they come. */
class PieceWriter {
  readonly writer = new StreamWriter();
  #written = 0;

  constructor(private readonly target: number) {}

  flushIfLarge(): void {
    if (this.writer.position - this.#written >= FLUSH_BYTES) this.flush();
  }

  flush(): void {
    const bytes = this.writer.drainBytes();
    writeFully(this.target, bytes, this.#written);
    this.#written += bytes.byteLength;
  }
}
