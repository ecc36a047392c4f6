import { constants } from 'node:fs';
import { errorReason, MapramError } from '../errors.js';
import { allocatedBytes } from '../io/file-space.js';
import { closeFile, openFile } from '../io/open-file.js';
import { type ImageBlock, MappedRamImage } from '../mapped-ram/image.js';
import type { ProgressEvent } from '../progress.js';
import { type DecodedDevice, decodeDevice } from '../stream/device-decoder.js';
import type { DeviceSection } from '../stream/device-sections.js';
import { countStalePages } from './stale-pages.js';

export interface InspectOptions {
  /** Path of the image. */
  readonly file: string;
  /** Where the stream starts, for files saved with `offset=`. Found by itself at 0 and behind libvirt's header. */
  readonly offset?: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (event: ProgressEvent) => void;
}

/** What is inside a mapped-ram image. Sizes and offsets in bytes; offsets count from the start of the file. */
export interface Inspection {
  readonly file: string;
  readonly container: 'qemu' | 'libvirt';
  /** Where the stream starts. */
  readonly offset: number;
  /** The domain XML of a libvirt image. */
  readonly domainXml?: string;
  readonly machine: string;
  readonly capabilities: readonly string[];
  readonly pageSize: number;
  /** False when the save did not finish or the file was cut short. */
  readonly complete: boolean;
  readonly fileBytes: number;
  /** What the file takes on the disk; holes take nothing. */
  readonly allocatedBytes: number;
  readonly ramBytes: number;
  /** Pages whose contents are in the file, all blocks together. */
  readonly normalPages: number;
  /** Rounds over RAM after the first, while the guest ran. */
  readonly rounds: number;
  readonly blocks: readonly InspectedBlock[];
  readonly devices: readonly InspectedDevice[];
  /** What mapram wrote about the file; null in files of others. */
  readonly manifest: unknown;
  /** What was found wrong while reading, in people's words. */
  readonly problems: readonly string[];
}

export interface InspectedBlock {
  readonly idstr: string;
  readonly usedLength: number;
  readonly pagesOffset: number;
  readonly bitmapOffset: number;
  readonly normalPages: number;
  /** Pages that are zero although their slots hold data. */
  readonly stalePages: number;
}

export interface InspectedDevice {
  readonly idstr: string;
  readonly instanceId: number;
  readonly version: number;
  /** Bytes of its data. */
  readonly length: number;
  /** Its fields, where the file describes them. */
  readonly state?: DecodedDevice;
}

/**
 * Reads all of an image but its pages; slots of pages that should be zero are looked at, where there is data in them.
 *
 * @throws MapramError `FORMAT` saying what the file is instead, `UNSUPPORTED` for a stream without mapped-ram, `IO`
 */
export async function inspect(options: InspectOptions): Promise<Inspection> {
  const { file, offset, signal } = options;
  signal?.throwIfAborted();
  await using image = await MappedRamImage.open(file, offset === undefined ? {} : { offset });
  const fd = openFile(file, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const blocks = await inspectBlocks(fd, image, options);
    const xml = image.container.libvirt?.xml;
    return {
      file,
      container: image.container.kind,
      offset: image.container.offset,
      ...(xml === undefined ? {} : { domainXml: xml }),
      machine: image.configuration.machine,
      capabilities: image.configuration.capabilities,
      pageSize: image.pageSize,
      complete: image.complete,
      fileBytes: image.source.byteLength,
      allocatedBytes: allocatedBytes(fd),
      ramBytes: blocks.reduce((sum, block) => sum + block.usedLength, 0),
      normalPages: blocks.reduce((sum, block) => sum + block.normalPages, 0),
      rounds: image.rounds,
      blocks,
      devices: image.devices.map(inspectDevice),
      manifest: image.manifest ?? null,
      problems: image.problems,
    };
  } catch (error) {
    if (error instanceof MapramError || signal?.aborted) throw error;
    throw new MapramError('IO', `reading ${file}: ${errorReason(error)}`, { path: file, cause: error });
  } finally {
    closeFile(fd);
  }
}

async function inspectBlocks(
  fd: number,
  image: MappedRamImage,
  { signal, onProgress }: InspectOptions,
): Promise<InspectedBlock[]> {
  const blocks: InspectedBlock[] = [];
  let bytes = 0;
  const started = performance.now();
  for (const block of image.blocks) {
    const stalePages = await countStalePages(fd, block, signal, (count) => {
      bytes += count;
      const rate = Math.round((bytes / Math.max(performance.now() - started, 1)) * 1000);
      onProgress?.({
        phase: 'looking for stale pages',
        bytes,
        totalBytes: 0,
        pages: bytes / block.pageSize,
        rate,
      });
    });
    blocks.push(inspectBlock(block, stalePages));
  }
  return blocks;
}

function inspectBlock(block: ImageBlock, stalePages: number): InspectedBlock {
  const { idstr, usedLength, pagesOffset, bitmapOffset, bitmap } = block;
  return { idstr, usedLength, pagesOffset, bitmapOffset, normalPages: bitmap.count(), stalePages };
}

function inspectDevice({ idstr, instanceId, versionId, data, description }: DeviceSection): InspectedDevice {
  return {
    idstr,
    instanceId,
    version: versionId,
    length: data.byteLength,
    ...(description === undefined ? {} : { state: decodeDevice(description, data) }),
  };
}
