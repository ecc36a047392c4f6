/** A mapped-ram file as the output of a migration: pages through the channels, everything else by the main channel. */

import type { ChannelBlock } from '../../channels/channel-block.js';
import { digestChunkBytes } from '../../channels/file/digest-chunk-bytes.js';
import { FileChannels, type PageSelection } from '../../channels/file/file-channels.js';
import {
  coverSlots,
  noPieces,
  releaseUnusedSlots,
  reserveSlots,
} from '../../channels/file/slot-allocation.js';
import type { PagePlace } from '../../channels/page-placer.js';
import type { DigestAlgorithm } from '../../checksums/chunk-hash.js';
import { DigestTable } from '../../checksums/digest-table.js';
import { defined } from '../../defined.js';
import { syncFileData } from '../../io/file/file-sync.js';
import { descriptorPath } from '../../io/file/open-file.js';
import { ImageWriter, type ImageWriterBlock } from '../../mapped-ram/image-writer.js';
import type { MigrationCapabilities } from '../../options/migration-capabilities.js';
import type { MigrationParameters } from '../../options/migration-parameters.js';
import { channelCount } from '../channel-count.js';
import type { MigrationFile } from '../migration-file.js';
import type { SourceDevices, SourceSetup } from '../sources/migration-source.js';
import type { MigrationOutput, OutputCounters } from './migration-output.js';

export interface FileOutputOptions {
  file: MigrationFile;
  parameters: MigrationParameters;
  capabilities: MigrationCapabilities;
  /** Whether the file is on the disk when the migration completes; true by default. */
  sync?: boolean;
  /** Compute digests of the pages while they are written. */
  checksums?: DigestAlgorithm;
  /** What a channel writes at once, see `FileChannelsOptions.ioSize`. */
  ioSize?: number;
  /** See `FileChannelsOptions.dropBehind`. */
  dropBehind?: boolean;
}

/** Digests of all chunks that could be digested while their pages were written, by idstr. */
export interface WrittenChecksums {
  algorithm: DigestAlgorithm;
  chunkBytes: number;
  digests: Map<string, DigestTable>;
}

export class FileOutput implements MigrationOutput {
  readonly #options: FileOutputOptions;
  #writer: ImageWriter | undefined;
  #channels: FileChannels | undefined;
  #earlySections: Uint8Array | undefined;
  #maxBandwidth = 0;
  /** By the index of the block. */
  readonly #digests = new Map<number, DigestTable>();
  /** Where pages go, whoever brings them. */
  #places: ChannelBlock[] = [];
  /** Those of them that no channel writes. */
  #placedBySource: ChannelBlock[] = [];
  #trimming: Promise<void> | undefined;
  #fileBytes = 0;
  /**
   * Marks of rounds that are written with the devices: sections of other devices that a source sends among its pages must come
   * before them, since a whole section after such a mark says that the stream has no END of RAM.
   */
  #laterParts = 0;

  constructor(options: FileOutputOptions) {
    this.#options = options;
  }

  get name(): string {
    return this.#options.file.name;
  }

  get pageSize(): number {
    return this.#writer?.pageSize ?? 4096;
  }

  get blocks(): readonly ImageWriterBlock[] {
    return this.#writer?.blocks ?? [];
  }

  /** Length of the file once it is complete. */
  get fileBytes(): number {
    return this.#fileBytes;
  }

  /** Channels that move pages; 0 where the source places all pages itself. */
  get channelCount(): number {
    return this.#channels?.count ?? 0;
  }

  get direct(): boolean {
    return this.#options.file.direct;
  }

  get checksums(): WrittenChecksums | undefined {
    const { checksums: algorithm } = this.#options;
    if (algorithm === undefined) return undefined;
    const digests = new Map(
      [...this.#digests].map(([index, table]) => [(this.blocks[index] as ImageWriterBlock).idstr, table]),
    );
    return { algorithm, chunkBytes: this.#digestChunkBytes(algorithm), digests };
  }

  get maxBandwidth(): number {
    return this.#maxBandwidth;
  }

  set maxBandwidth(bytesPerSecond: number) {
    this.#maxBandwidth = bytesPerSecond;
    if (this.#channels) this.#channels.maxBandwidth = bytesPerSecond;
  }

  async open(setup: SourceSetup, signal: AbortSignal): Promise<void> {
    const writer = await this.#layOut(setup);
    this.#earlySections = setup.earlySections;
    await this.#openChannels(setup, writer, signal);
  }

  placement(): PagePlace {
    const { file } = this.#options;
    return {
      name: file.name,
      path: descriptorPath(file.channelFd),
      direct: file.direct,
      blocks: this.#places,
    };
  }

  async writeStart(): Promise<void> {
    await this.#writer?.writeStart();
    if (this.#earlySections) await this.#writer?.writeSections(this.#earlySections);
  }

  async transfer(ranges?: readonly PageSelection[]): Promise<void> {
    await this.#channels?.transfer(defined({ ranges }));
  }

  async writePart(): Promise<void> {
    if (this.#placedBySource.length === 0) await this.#writer?.writePart();
    else this.#laterParts++;
  }

  pagesDone(): void {
    // By a thread of the channels, which are free then.
    this.#trimming = this.#channels?.trim();
    // Whether it has failed is asked later.
    this.#trimming?.catch(() => {});
  }

  async writeDevices(devices: SourceDevices, onPhase: (phase: string) => void): Promise<void> {
    const { file, sync = true } = this.#options;
    const writer = this.#writer as ImageWriter;
    if (devices.amongRam) await writer.writeSections(devices.amongRam);
    for (; this.#laterParts > 0; this.#laterParts--) await writer.writePart();
    await writer.writeEnd({ switchoverStart: devices.switchoverStart });
    await writer.writeSections(devices.sections);
    this.#fileBytes = await writer.finish(devices.vmdescription);
    await releaseUnusedSlots(file.mainFd, this.#placedBySource);
    await this.#trimming;
    if (!sync) return;
    onPhase('syncing');
    await syncFileData(file.mainFd);
  }

  counters(): OutputCounters {
    const progress = this.#channels?.progress() ?? [];
    const { streamBytes = 0, ramBytes: recordBytes = 0 } = this.#writer ?? {};
    return {
      normalPages: progress.reduce((total, { normalPages }) => total + normalPages, 0),
      duplicatePages: progress.reduce((total, { duplicatePages }) => total + duplicatePages, 0),
      streamBytes,
      recordBytes,
      channels: progress.map(({ channel, bytes }) => ({ id: channel, bytes })),
    };
  }

  abort(): void {
    this.#channels?.abort();
  }

  async close(): Promise<void> {
    await this.#channels?.close();
  }

  #digestChunkBytes(algorithm: DigestAlgorithm): number {
    const ramBytes = this.blocks.reduce((total, { usedLength }) => total + usedLength, 0);
    return digestChunkBytes(ramBytes, algorithm);
  }

  async #layOut(setup: SourceSetup): Promise<ImageWriter> {
    const { file } = this.#options;
    this.#writer = await ImageWriter.create({
      fd: file.mainFd,
      path: file.name,
      offset: file.offset,
      configuration: { ...setup.configuration, capabilities: ['mapped-ram'] },
      blocks: setup.blocks.map(({ idstr, usedLength }) => ({ idstr, usedLength })),
      pageSize: setup.pageSize,
      ramSectionId: setup.ramSectionId,
    });
    return this.#writer;
  }

  /** A source that places all of its pages itself needs no channels. */
  async #openChannels(setup: SourceSetup, writer: ImageWriter, signal: AbortSignal): Promise<void> {
    const { file, parameters, capabilities, checksums, ioSize, dropBehind = false } = this.#options;
    if (checksums) this.#makeDigestTables(checksums);
    this.#places = writer.blocks.map(({ idstr, usedLength, pageSize, pagesOffset, bitmap }, index) => {
      const digests = this.#digests.get(index)?.shape;
      return {
        idstr,
        usedLength,
        pageSize,
        pagesOffset,
        bitmap: bitmap.bytes.buffer as SharedArrayBuffer,
        allocated: noPieces(usedLength),
        ...defined({ digests, memory: setup.blocks[index]?.memory }),
      };
    });
    this.#placedBySource = this.#places.filter(({ memory }) => memory === undefined);
    coverSlots(file.mainFd, this.#places);
    const blocks = this.#places.filter(({ memory }) => memory !== undefined);
    if (blocks.length > 0) {
      this.#channels = await FileChannels.open({
        ...file.channelTarget(channelCount(parameters, capabilities)),
        access: 'write',
        direct: file.direct,
        blocks,
        zeroPageDetection: parameters['zero-page-detection'],
        dropBehind,
        ...defined({ ioSize }),
        signal,
      });
      this.#channels.maxBandwidth = this.#maxBandwidth;
      if (file.direct) await this.#reserveSpace();
    }
  }

  async #reserveSpace(): Promise<void> {
    for (const block of this.#places) {
      if (block.memory) await reserveSlots(this.#options.file.mainFd, block.memory, block);
    }
  }

  #makeDigestTables(algorithm: DigestAlgorithm): void {
    const chunkBytes = this.#digestChunkBytes(algorithm);
    for (const [index, { usedLength }] of this.blocks.entries()) {
      this.#digests.set(index, DigestTable.create({ algorithm, chunkBytes, length: usedLength }));
    }
  }
}
