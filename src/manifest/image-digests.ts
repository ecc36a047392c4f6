/** Digests of what is in an image: its pages are read once, by all channels, past the page cache where possible. */
import type { ImageBlock, MappedRamImage } from '../mapped-ram/image.js';
import { type ChannelRegion, regionBitmapBytes } from '../multifd/channel-region.js';
import { DigestTable } from '../multifd/digest-table.js';
import { FileChannels } from '../multifd/file-channels.js';
import type { ProgressEvent } from '../progress.js';
import { ProgressMeter } from '../progress-meter.js';
import type { ManifestChecksums } from './manifest.js';

export interface DigestOptions extends ManifestChecksums {
  /** The file behind the image; it may be a path in /proc. */
  path: string;
  channels: number;
  direct: boolean;
  signal?: AbortSignal;
  onProgress?: (event: ProgressEvent) => void;
  /** How often, in ms; 200 by default. */
  progressMs?: number;
}

/**
 * Digests the chunks of `blocks`. Chunks that cannot be read, or end past the end of the file, are marked in the tables.
 *
 * @throws MapramError `NO_DIRECT_IO`, `IO` when the file cannot be opened; `CANCELLED`
 */
export async function digestBlocks(
  blocks: readonly ImageBlock[],
  options: DigestOptions,
): Promise<DigestTable[]> {
  const { path, channels: count, direct, algorithm, chunkBytes, signal, onProgress } = options;
  const tables = blocks.map(({ usedLength }) =>
    DigestTable.create({ algorithm, chunkBytes, length: usedLength }),
  );
  await using channels = await FileChannels.open({
    path,
    access: 'digest',
    count,
    direct,
    regions: blocks.map((block, index) => regionOf(block, tables[index] as DigestTable)),
    ...(signal ? { signal } : {}),
  });
  const totalBytes = presentBytes(blocks);
  const meter = new ProgressMeter();
  const report = () => onProgress?.(progressOf(channels, totalBytes, meter));
  const ticker = setInterval(report, options.progressMs ?? 200);
  try {
    await channels.transfer();
  } finally {
    clearInterval(ticker);
  }
  report();
  return tables;
}

/** Bytes of the pages that the image holds. */
export function presentBytes(blocks: MappedRamImage['blocks']): number {
  return blocks.reduce((total, { bitmap, pageSize }) => total + bitmap.count() * pageSize, 0);
}

function regionOf(
  { idstr, usedLength, pageSize, pagesOffset, bitmap }: ImageBlock,
  digests: DigestTable,
): ChannelRegion {
  const bits = new SharedArrayBuffer(regionBitmapBytes(usedLength, pageSize));
  new Uint8Array(bits).set(bitmap.bytes);
  return {
    name: idstr,
    fd: -1,
    fdOffset: 0,
    length: usedLength,
    pagesOffset,
    pageSize,
    bitmap: bits,
    digests,
  };
}

function progressOf(channels: FileChannels, totalBytes: number, meter: ProgressMeter): ProgressEvent {
  const shares = channels.progress();
  return meter.report('checksums', {
    bytes: shares.reduce((total, { bytes }) => total + bytes, 0),
    totalBytes,
    pages: shares.reduce((total, { normalPages }) => total + normalPages, 0),
    channels: shares.map(({ channel, bytes }) => ({ id: channel, bytes })),
  });
}
