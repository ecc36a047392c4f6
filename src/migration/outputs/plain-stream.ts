/** A plain migration stream, written at once: `convert --to stream`, and what a resumed QEMU gets. */
import type { PageStretch, SourcePages } from '../../channels/page-source.js';
import { RecordWriter } from '../../channels/record-writer.js';
import { type StreamDevices, StreamFrame, type StreamStart } from '../../stream/stream-frame.js';

export interface PlainStreamOptions {
  start: StreamStart;
  devices: StreamDevices;
  pages: AsyncIterable<SourcePages>;
  /** Takes all of the bytes, whose memory is used again afterwards. */
  write(bytes: Uint8Array): void;
  /** Called when these have been written; throws to stop. */
  onPages?: (pages: SourcePages) => void;
}

/** Byte offsets in a stream. */
export interface StreamPositions {
  /** Where the records of pages end, and more can be put in. */
  pagesEnd: number;
  /** Where the sections of the devices begin. */
  sectionsPosition: number;
  byteLength: number;
}

export async function writePlainStream(options: PlainStreamOptions): Promise<StreamPositions> {
  const { start, devices, pages, onPages } = options;
  let byteLength = 0;
  const write = (bytes: Uint8Array) => {
    options.write(bytes);
    byteLength += bytes.length;
  };
  const frame = new StreamFrame(start);
  write(frame.start());
  write(frame.partStart());
  const records = new RecordWriter(write);
  for await (const some of pages) {
    records.write(some);
    onPages?.(some);
  }
  const pagesEnd = byteLength;
  write(frame.partEnd());
  write(frame.ramEnd(devices.switchoverStart));
  const sectionsPosition = byteLength;
  write(frame.devices(devices));
  return { pagesEnd, sectionsPosition, byteLength };
}

/** Consecutive pages of a block, either all with contents or all zero. */
export interface SavedStretch<Block> {
  block: Block;
  first: number;
  count: number;
  zero: boolean;
}

interface SavedBlock {
  readonly idstr: string;
  readonly pageSize: number;
}

/** Pages read at once. */
const PAGES_AT_ONCE = 1024;

/** The pages of a saved VM of any form, in the order of `stretches`. */
export async function* savedPages<Block extends SavedBlock>(
  saved: { readPages(block: Block, first: number, count: number): Promise<Uint8Array> },
  stretches: Iterable<SavedStretch<Block>>,
): AsyncGenerator<SourcePages> {
  const none = new Uint8Array(0);
  for (const { block, first, count, zero } of stretches) {
    const { pageSize } = block;
    const pieces = zero ? [{ first, count }] : inPieces(first, count);
    for (const piece of pieces) {
      const stretch: PageStretch = { offset: piece.first * pageSize, count: piece.count };
      yield zero
        ? { block, offsets: [], data: none, zeros: [stretch] }
        : {
            block,
            offsets: Array.from({ length: piece.count }, (_, page) => stretch.offset + page * pageSize),
            data: await saved.readPages(block, piece.first, piece.count),
            zeros: [],
          };
    }
  }
}

/** All pages `[first, end)` of a block, given the runs of those with contents. */
export function* stretchesOf<Block>(
  block: Block,
  first: number,
  end: number,
  runs: Iterable<{ first: number; count: number }>,
): Generator<SavedStretch<Block>> {
  let next = first;
  for (const run of runs) {
    if (run.first > next) yield { block, first: next, count: run.first - next, zero: true };
    yield { block, ...run, zero: false };
    next = run.first + run.count;
  }
  if (end > next) yield { block, first: next, count: end - next, zero: true };
}

function* inPieces(first: number, count: number): Generator<{ first: number; count: number }> {
  for (let done = 0; done < count; done += PAGES_AT_ONCE)
    yield { first: first + done, count: Math.min(PAGES_AT_ONCE, count - done) };
}
