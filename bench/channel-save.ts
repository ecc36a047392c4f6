/** A save by file channels alone, without a VM: what the disk and the channels can do. */
import { closeSync, constants, fdatasyncSync, ftruncateSync, openSync, rmSync } from 'node:fs';
import path from 'node:path';
import { bitmapBytes } from '../src/channels/channel-block.js';
import { digestChunkBytes } from '../src/channels/file/digest-chunk-bytes.js';
import { FileChannels, type FileChannelsOptions } from '../src/channels/file/file-channels.js';
import {
  coverSlots,
  noPieces,
  releaseUnusedSlots,
  reserveSlots,
} from '../src/channels/file/slot-allocation.js';
import type { DigestAlgorithm } from '../src/checksums/chunk-hash.js';
import { DigestTable } from '../src/checksums/digest-table.js';
import { defined } from '../src/defined.js';
import { MIB, type StripedMemory } from './striped-memory.js';

const PAGE = 4096;

export interface ChannelSave
  extends Pick<FileChannelsOptions, 'ioSize' | 'copy' | 'zeroPageDetection' | 'bridgeBytes' | 'ioDepth'> {
  memory: StripedMemory;
  /** Where the file goes; it is removed again. */
  folder: string;
  channels: number;
  direct?: boolean;
  /**
   * When the blocks of the file are reserved: all before the first write, as `mapram save` does and the default, piece by piece when the
   * first page of each comes, or by the writes themselves.
   */
  reserve?: 'before' | 'pieces' | 'never';
  /** Whether the file has its size before it is written; true by default. */
  sized?: boolean;
  /** By default those that `mapram save` computes. */
  checksums?: DigestAlgorithm | 'none';
}

/** Seconds from the first page to the end of the sync. Threads and file are there before. */
export async function saveByChannels({
  memory: { fd, length },
  folder,
  channels: count,
  direct = true,
  reserve = 'before',
  sized = true,
  checksums = 'xxh64',
  ...options
}: ChannelSave): Promise<number> {
  const file = path.join(folder, 'channel-save');
  rmSync(file, { force: true });
  const main = openSync(file, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL, 0o600);
  try {
    const digests =
      checksums === 'none'
        ? undefined
        : DigestTable.create({
            algorithm: checksums,
            chunkBytes: digestChunkBytes(length, checksums),
            length,
          });
    const block = {
      idstr: 'bench.ram',
      usedLength: length,
      pageSize: PAGE,
      pagesOffset: MIB,
      bitmap: new SharedArrayBuffer(bitmapBytes(length, PAGE)),
      memory: { fd, offset: 0 },
      ...defined({
        allocated: reserve === 'never' ? undefined : noPieces(length),
        digests: digests?.shape,
      }),
    };
    await using channels = await FileChannels.open({
      path: file,
      access: 'write',
      count,
      direct,
      ...options,
      blocks: [block],
    });
    const start = performance.now();
    if (sized) coverSlots(main, [block]);
    if (reserve === 'before') await reserveSlots(main, block.memory, block);
    await channels.transfer();
    await releaseUnusedSlots(main, [block]);
    ftruncateSync(main, MIB + length);
    fdatasyncSync(main);
    return (performance.now() - start) / 1000;
  } finally {
    closeSync(main);
    rmSync(file, { force: true });
  }
}
