/**
 * Turns a mapped-ram image into the ordinary migration stream that a QEMU needs which has most of the RAM already, mapped from
 * that image or filled by others:
 *
 *     magic, version
 *     CONFIGURATION        as in the image, without the capability mapped-ram
 *     sections             of devices that come before RAM (virtio-mem), verbatim
 *     START ram            the list of all RAM blocks
 *     PART ram             mapped blocks: a ZERO record for each stale slot, nothing else
 *                          filled blocks: nothing
 *                          other blocks (ROMs, video memory): every page, PAGE or ZERO
 *     END ram              nothing
 *     sections             the device state, verbatim
 *     EOF, empty vmdescription
 *
 * A slot is stale when its page's bit is clear: the page is zero, but a live save may have left older contents in the
 * file, and these would show through a mapping. Stale slots are looked for where the file has data, since a hole reads as
 * zeros anyway: the time depends on what the file holds, not on the size of the RAM.
 */

import { RecordWriter } from '../../channels/record-writer.js';
import { defined } from '../../defined.js';
import { dataExtents } from '../../io/file/data-extents.js';
import { writeFully } from '../../io/file/positional-io.js';
import type { PageRun } from '../../mapped-ram/bitmap.js';
import type { ImageBlock, MappedRamImage } from '../../mapped-ram/image.js';
import {
  type SavedStretch,
  type StreamPositions,
  savedPages,
  stretchesOf,
  writePlainStream,
} from '../../migration/outputs/plain-stream.js';
import { streamOfSaved } from '../../stream/stream-frame.js';
import { concatenate } from '../../stream/stream-writer.js';

export interface StateStream extends StreamPositions {
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
  const { start, devices } = streamOfSaved(image);
  const { machine, targetPageBits } = start.configuration;
  let position = 0;
  let zeroedPages = 0;
  let loadedPages = 0;
  const stretches = function* (): Generator<SavedStretch<ImageBlock>> {
    for (const block of image.blocks) {
      const memory = memoryOf(block);
      if (memory === 'fresh') {
        loadedPages += block.pageCount;
        yield* imageStretches(block, { first: 0, count: block.pageCount });
      } else if (memory === 'mapped') {
        for (const run of staleRuns(block, file)) {
          zeroedPages += run.count;
          yield { block, ...run, zero: true };
        }
      }
    }
  };
  const positions = await writePlainStream({
    start: { ...start, configuration: { machine, ...defined({ targetPageBits }), capabilities: [] } },
    // QEMU complains where there is no description, and does not look at one that is there.
    devices: { ...devices, vmdescription: '{}' },
    pages: savedPages(image, stretches()),
    write(bytes) {
      writeFully(target, bytes, position);
      position += bytes.length;
    },
  });
  return { ...positions, zeroedPages, loadedPages };
}

/** Runs of pages whose bit is clear although their slots, or parts of them, are not holes. */
export function* staleRuns(block: ImageBlock, file: number): Generator<PageRun> {
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
  const pieces: Uint8Array[] = [];
  const records = new RecordWriter((bytes) => pieces.push(bytes.slice()));
  const stretches = function* () {
    for (const { block, run } of runs) yield* imageStretches(block, run);
  };
  for await (const pages of savedPages(image, stretches())) records.write(pages);
  return concatenate(pieces);
}

function imageStretches(block: ImageBlock, { first, count }: PageRun): Generator<SavedStretch<ImageBlock>> {
  return stretchesOf(block, first, first + count, block.bitmap.runs(first, first + count));
}
