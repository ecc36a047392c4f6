import { constants } from 'node:fs';
import type { SavedBlock, SavedVm } from '../../analysis/saved-vm.js';
import { countStalePages } from '../../analysis/stale-pages.js';
import { assertOptions, flag, optionsOf, path, signal } from '../../checked-options.js';
import { defined } from '../../defined.js';
import { errorReason, MapramError } from '../../errors.js';
import { allocatedBytes, fileSize } from '../../io/file/file-space.js';
import { closeFile, openFile } from '../../io/file/open-file.js';
import { FileSource } from '../../mapped-ram/byte-source.js';
import type { GuestRegion } from '../../mapped-ram/guest-map.js';
import { MappedRamImage } from '../../mapped-ram/image.js';
import { isStoreAddress } from '../../store/open-place.js';
import { StoreSource } from '../../store/store-source.js';
import { type DecodedDevice, decodeDevice } from '../../stream/device-decoder.js';
import type { DeviceSection } from '../../stream/device-sections.js';
import { inSlices, type SlicedWork } from '../../stream/slices.js';
import type { Bytes, Count } from '../../units.js';
import type { FileOptions } from '../files/file-options.js';
import { runOperation } from '../files/operation.js';
import { offset, onProgress } from '../files/option-kinds.js';
import { openSaved } from '../store/open-saved.js';

export interface InspectOptions extends FileOptions {
  /** Whether devices come with their state, decoded; true by default. It takes most of the time. */
  deviceState?: boolean | undefined;
}

const InspectOptionsSchema = optionsOf<InspectOptions>({
  file: path,
  offset,
  signal,
  onProgress,
  deviceState: flag,
});

/** What is inside a saved VM but its devices. Sizes and offsets in bytes; offsets count from the start of the file. */
export interface InspectedFile {
  readonly file: string;
  readonly container: 'qemu' | 'libvirt';
  readonly form: 'mapped-ram' | 'stream';
  /** Where the stream starts. */
  readonly offset: Bytes;
  /** How libvirt compressed the stream; `offset` is then where it starts in the decompressed bytes. */
  readonly compression?: string;
  /** The domain XML of a libvirt image. */
  readonly domainXml?: string;
  readonly machine: string;
  readonly capabilities: readonly string[];
  readonly pageSize: Bytes;
  /** False when the save did not finish or the file was cut short. */
  readonly complete: boolean;
  readonly fileBytes: Bytes;
  /** What the file takes on the disk; holes take nothing. */
  readonly allocatedBytes: Bytes;
  readonly ramBytes: Bytes;
  /** Guest-physical addresses of RAM; blocks whose place is not known are in `unplaced`. */
  readonly guestRegions: readonly GuestRegion[];
  readonly unplaced: readonly string[];
  /** Pages whose contents are in the file, all blocks together. */
  readonly normalPages: Count;
  /** Rounds over RAM after the first, while the guest ran. */
  readonly rounds: Count;
  readonly blocks: readonly InspectedBlock[];
  /** What mapram wrote about the file; null in files of others. */
  readonly manifest: unknown;
  /** What was found wrong while reading, each in a sentence. */
  readonly problems: readonly string[];
}

/** What is inside a saved VM. */
export interface Inspection extends InspectedFile {
  readonly devices: readonly InspectedDevice[];
}

export interface InspectedBlock {
  readonly idstr: string;
  readonly usedLength: Bytes;
  /** Of mapped-ram files. */
  readonly pagesOffset?: Bytes;
  readonly bitmapOffset?: Bytes;
  readonly normalPages: Count;
  /** Of mapped-ram files: pages that are zero although their slots hold data. */
  readonly stalePages?: Count;
}

export interface DeviceHeader {
  readonly idstr: string;
  readonly instanceId: Count;
  readonly version: Count;
  /** Bytes of its data. */
  readonly length: Bytes;
  /** Where in the stream its section starts, counted from the magic. */
  readonly position: Bytes;
}

export interface InspectedDevice extends DeviceHeader {
  /** Its fields, where the file describes them. */
  readonly state?: DecodedDevice;
  /** Its bytes, where the file does not. */
  readonly data?: Uint8Array;
}

/**
 * Reads all of a mapped-ram file but its pages; slots of pages that should be zero are looked at, where there is data
 * in them. A plain stream is read once from start to end.
 *
 * @throws MapramError `FORMAT` saying what the file is instead, `UNSUPPORTED` for a compression that cannot be undone
 *   here, `IO`
 */
export async function inspect(options: InspectOptions): Promise<Inspection> {
  assertOptions('inspect', InspectOptionsSchema, options);
  return runOperation(`inspecting ${options.file}`, options.file, options, inspectFile);
}

async function inspectFile(options: InspectOptions): Promise<Inspection> {
  const { file, signal } = options;
  signal?.throwIfAborted();
  await using saved = await openSaved(file, options);
  return await inspectSaved(saved, options);
}

/** Like `inspect`, of a VM that is open already. */
export async function inspectSaved(
  saved: SavedVm,
  options: Pick<InspectOptions, 'signal' | 'onProgress' | 'deviceState'> = {},
): Promise<Inspection> {
  const { path: file, container, configuration, guestMap } = saved;
  try {
    const blocks = await inspectBlocks(saved, options);
    const xml = container.libvirt?.xml;
    return {
      file,
      container: container.kind,
      form: saved.form,
      offset: container.offset,
      ...defined({ compression: container.compression, domainXml: xml }),
      machine: configuration.machine,
      capabilities: configuration.capabilities,
      pageSize: saved.pageSize,
      complete: saved.complete,
      ...sizesOf(saved),
      ramBytes: blocks.reduce((sum, block) => sum + block.usedLength, 0),
      guestRegions: guestMap.regions,
      unplaced: guestMap.unplaced,
      normalPages: blocks.reduce((sum, block) => sum + block.normalPages, 0),
      rounds: saved.rounds,
      blocks,
      devices: await inSlices(deviceSteps(saved.devices, options.deviceState !== false)),
      manifest: saved.manifest ?? null,
      problems: saved.problems,
    };
  } catch (error) {
    if (error instanceof MapramError || options.signal?.aborted) throw error;
    throw new MapramError('IO', `reading ${file}: ${errorReason(error)}`, { path: file, cause: error });
  }
}

/** Of a snapshot in a store, what is not zero counts as allocated. */
function sizesOf({ path, source }: SavedVm): Pick<Inspection, 'fileBytes' | 'allocatedBytes'> {
  if (source instanceof StoreSource)
    return { fileBytes: source.byteLength, allocatedBytes: source.file.dataBytes };
  // What was decompressed has the size of its copy, wherever it came from.
  if (isStoreAddress(path)) return { fileBytes: source.byteLength, allocatedBytes: source.byteLength };
  const fd = openFile(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    return { fileBytes: fileSize(fd), allocatedBytes: allocatedBytes(fd) };
  } finally {
    closeFile(fd);
  }
}

async function inspectBlocks(
  saved: SavedVm,
  { signal, onProgress }: Pick<InspectOptions, 'signal' | 'onProgress'>,
): Promise<InspectedBlock[]> {
  if (!(saved instanceof MappedRamImage))
    return saved.blocks.map((block) => inspectStreamBlock(saved, block));
  const { source } = saved;
  const blocks: InspectedBlock[] = [];
  let bytes = 0;
  const started = performance.now();
  for (const block of saved.blocks) {
    const { idstr, usedLength, pagesOffset, bitmapOffset, bitmap } = block;
    const inspected = { idstr, usedLength, pagesOffset, bitmapOffset, normalPages: bitmap.count() };
    if (!(source instanceof FileSource)) {
      blocks.push(inspected);
      continue;
    }
    const stalePages = await countStalePages(source.fd, block, signal, (count) => {
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
    blocks.push({ ...inspected, stalePages });
  }
  return blocks;
}

function inspectStreamBlock(saved: SavedVm, block: SavedBlock): InspectedBlock {
  let normalPages = 0;
  for (const { count } of saved.runs(block)) normalPages += count;
  return { idstr: block.idstr, usedLength: block.usedLength, normalPages };
}

/** Of devices, decoded at once: some thousand values. */
const SLICE_BYTES = 1 << 13;

/** A machine of hundreds of processors has some 100,000 values. */
export function* deviceSteps(
  sections: readonly DeviceSection[],
  withState: boolean,
): SlicedWork<InspectedDevice[]> {
  const devices: InspectedDevice[] = [];
  let bytes = 0;
  for (const section of sections) {
    devices.push(inspectDevice(section, withState));
    bytes += section.data.byteLength;
    if (bytes < SLICE_BYTES) continue;
    yield bytes;
    bytes = 0;
  }
  return devices;
}

function inspectDevice(section: DeviceSection, withState: boolean): InspectedDevice {
  const { idstr, instanceId, versionId, position, data, description } = section;
  return {
    idstr,
    instanceId,
    version: versionId,
    length: data.byteLength,
    position,
    ...(withState && (description === undefined ? { data } : { state: decodeDevice(description, data) })),
  };
}
