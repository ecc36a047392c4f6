/** Digests of what is in an image: its pages are read once, by all channels, past the page cache where possible. */

import { constants } from 'node:fs';
import { channelBlock } from '../channels/channel-block.js';
import { FileChannels } from '../channels/file/file-channels.js';
import { transferWithProgress } from '../channels/file/transfer-with-progress.js';
import { findBit } from '../channels/page-bits.js';
import { CHUNK_STATE, DigestTable } from '../checksums/digest-table.js';
import { defined } from '../defined.js';
import { O_DIRECT } from '../io/file/direct-io-support.js';
import { releaseFiles, reopenFile } from '../io/file/open-file.js';
import type { ImageBlock } from '../mapped-ram/image.js';
import type { OperationOptions } from '../progress.js';
import type { ManifestChecksums } from './manifest.js';

/** A thread takes as long to start as these take to be read. */
const WORTH_A_CHANNEL = 64 * 1024 ** 2;

export interface DigestOptions extends ManifestChecksums, OperationOptions {
  /** The file behind the image. */
  path: string;
  /** The same, open: what is at `path` by now does then not matter. */
  descriptor?: number | undefined;
  /** At most; what is small is read by fewer. */
  channels: number;
  direct: boolean;
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
  const { algorithm, chunkBytes } = options;
  const tables = blocks.map(({ usedLength }) =>
    DigestTable.create({ algorithm, chunkBytes, length: usedLength }),
  );
  await digestMissing(blocks, tables, options);
  return tables;
}

/** As `digestBlocks`, of those chunks only that are not done in the tables. */
export async function digestMissing(
  blocks: readonly ImageBlock[],
  tables: readonly DigestTable[],
  options: DigestOptions,
): Promise<void> {
  const missing = blocks.map((block, index) => missingChunks(block, tables[index] as DigestTable));
  if (missing.every(({ length }) => length === 0)) return;
  const { path, direct, signal, onProgress } = options;
  const totalBytes = missing.reduce(
    (total, ranges, index) => total + presentIn(blocks[index] as ImageBlock, ranges),
    0,
  );
  const count = Math.min(options.channels, Math.ceil(totalBytes / WORTH_A_CHANNEL) || 1);
  using descriptors = OwnDescriptors.of({ ...options, channels: count });
  await using channels = await FileChannels.open({
    path,
    access: 'digest',
    count,
    direct,
    ...defined({ fds: descriptors.fds.length > 0 ? descriptors.fds : undefined }),
    blocks: blocks.map((block, index) => channelBlock(block, { digests: tables[index] as DigestTable })),
    ...defined({ signal }),
  });
  await transferWithProgress(channels, {
    phase: 'checksums',
    totalBytes,
    everyMs: options.progressMs,
    onProgress,
  });
}

/** In bytes from the start of the block. */
type Range = [start: number, length: number];

/** The chunks that have to be read. Those without pages need not: their digest is 0. */
function missingChunks({ usedLength, pageSize, bitmap }: ImageBlock, table: DigestTable): Range[] {
  const { chunkBytes } = table.shape;
  const ranges: Range[] = [];
  for (let chunk = 0; chunk < table.count; chunk++) {
    if (table.state(chunk) === CHUNK_STATE.done) continue;
    const start = chunk * chunkBytes;
    const end = Math.min(start + chunkBytes, usedLength);
    if (findBit(bitmap.bytes, start / pageSize, end / pageSize, true) < end / pageSize) {
      const last = ranges.at(-1);
      if (last && last[0] + last[1] === start) last[1] = end - last[0];
      else ranges.push([start, end - start]);
    } else {
      table.digest(chunk).fill(0);
      table.setState(chunk, CHUNK_STATE.done);
    }
  }
  return ranges;
}

function presentIn({ bitmap, pageSize }: ImageBlock, ranges: readonly Range[]): number {
  let pages = 0;
  for (const [start, length] of ranges) {
    for (const { count } of bitmap.runs(start / pageSize, (start + length) / pageSize)) pages += count;
  }
  return pages * pageSize;
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
    releaseFiles(this.fds.splice(0));
  }
}
