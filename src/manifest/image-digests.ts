/** Digests of what is in an image: its pages are read once, by all channels, past the page cache where possible. */
import { constants } from 'node:fs';
import { O_DIRECT } from '../io/direct-io-support.js';
import { closeFile, reopenFile } from '../io/open-file.js';
import type { ImageBlock, MappedRamImage } from '../mapped-ram/image.js';
import { type ChannelRegion, regionBitmapBytes } from '../multifd/channel-region.js';
import type { ChannelThreads } from '../multifd/channel-threads.js';
import { DigestTable } from '../multifd/digest-table.js';
import { FileChannels } from '../multifd/file-channels.js';
import type { ProgressEvent } from '../progress.js';
import { ProgressMeter } from '../progress-meter.js';
import type { ManifestChecksums } from './manifest.js';

/** A thread takes as long to start as these take to be read. */
const WORTH_A_CHANNEL = 64 * 1024 ** 2;

export interface DigestOptions extends ManifestChecksums {
  /** The file behind the image. */
  path: string;
  /** The same, open: what is at `path` by now does then not matter. */
  descriptor?: number | undefined;
  /** At most; what is small is read by fewer. */
  channels: number;
  direct: boolean;
  /** Threads to borrow for it. */
  threads?: ChannelThreads;
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
  const { path, direct, algorithm, chunkBytes, threads, signal, onProgress } = options;
  const totalBytes = presentBytes(blocks);
  const count = Math.min(options.channels, Math.ceil(totalBytes / WORTH_A_CHANNEL) || 1);
  using descriptors = OwnDescriptors.of({ ...options, channels: count });
  const tables = blocks.map(({ usedLength }) =>
    DigestTable.create({ algorithm, chunkBytes, length: usedLength }),
  );
  await using channels = await FileChannels.open({
    path,
    access: 'digest',
    count,
    direct,
    ...(descriptors.fds.length > 0 ? { fds: descriptors.fds } : {}),
    regions: blocks.map((block, index) => regionOf(block, tables[index] as DigestTable)),
    ...(threads ? { threads } : {}),
    ...(signal ? { signal } : {}),
  });
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

/** A description a channel, of a file that is open already. Empty where the channels are to open it by its path. */
class OwnDescriptors implements Disposable {
  readonly fds: number[] = [];

  static of({ descriptor, channels, direct }: DigestOptions): OwnDescriptors {
    const own = new OwnDescriptors();
    if (descriptor === undefined) return own;
    const flags = constants.O_RDONLY | (direct ? O_DIRECT : 0);
    try {
      while (own.fds.length < channels) own.fds.push(reopenFile(descriptor, flags));
      return own;
    } catch (error) {
      own[Symbol.dispose]();
      throw error;
    }
  }

  [Symbol.dispose](): void {
    for (const fd of this.fds.splice(0)) {
      try {
        closeFile(fd);
      } catch {
        // Of a file that was only read: the descriptor is gone, and nothing is lost.
      }
    }
  }
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
