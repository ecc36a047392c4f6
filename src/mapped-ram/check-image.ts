import { deviceKey } from '../stream/device-sections.js';
import { MAPPED_RAM_HEADER_BYTES, MAPPED_RAM_VERSION } from '../stream/mapped-ram-header.js';
import { mayBeLonger } from '../stream/vmdescription.js';
import type { ImageBlock, MappedRamImage } from './image.js';

/** Something about an image that is not as it should be. */
export interface ImageProblem {
  kind: /** The save did not finish or the file was cut short. */
    | 'incomplete'
    /** A header contradicts the format's rules. */
    | 'header'
    /** A page area is not where QEMU would have put it. */
    | 'alignment'
    /** Bits are set where there are no pages. */
    | 'bitmap'
    /** The file ends before a page that is marked as written. */
    | 'truncated'
    /** A device section does not fit its description, or the sections contradict each other. */
    | 'device'
    /** Bytes follow the end of the stream. */
    | 'trailing';
  /** A block's idstr, a device's name, or `stream`. */
  where: string;
  message: string;
  /** Whether loading the file would fail or load wrong contents. */
  fatal: boolean;
}

/** QEMU places page areas at multiples of this. */
const QEMU_ALIGNMENT = 2 ** 20;

/**
 * Checks the structure of an image against every rule of the format. Reads no pages.
 * An empty list means that QEMU would find nothing to complain about in the layout.
 */
export function checkImage(image: MappedRamImage): ImageProblem[] {
  return [
    ...checkStream(image),
    ...image.blocks.flatMap((block) => [...checkBlock(image, block)]),
    ...checkDevices(image),
  ];
}

function* checkStream(image: MappedRamImage): Generator<ImageProblem> {
  const { complete, tail } = image;
  const where = 'stream';
  if (!complete) {
    const message = image.problems[0] ?? 'the stream has no EOF: the save did not finish';
    yield { kind: 'incomplete', where, message, fatal: true };
  }
  if (tail.descriptionCut) {
    yield { kind: 'truncated', where, message: 'the vmdescription is cut short', fatal: false };
  }
  if (tail.trailingBytes > 0) {
    const message = `${tail.trailingBytes} bytes follow the end of the stream`;
    yield { kind: 'trailing', where, message, fatal: false };
  }
  const pageSizes = new Set(image.blocks.map((block) => block.pageSize));
  if (pageSizes.size > 1) {
    const message = `blocks have different page sizes: ${[...pageSizes].join(', ')}`;
    yield { kind: 'header', where, message, fatal: true };
  }
  const describedPageSize = tail.description?.pageSize;
  if (describedPageSize !== undefined && describedPageSize !== image.pageSize) {
    const message = `the vmdescription has page size ${describedPageSize}, the blocks have ${image.pageSize}`;
    yield { kind: 'header', where, message, fatal: true };
  }
}

function* checkBlock(image: MappedRamImage, block: ImageBlock): Generator<ImageProblem> {
  const { idstr: where, pageSize, pagesOffset, bitmapOffset, bitmap, headerOffset } = block;
  if (block.headerVersion !== MAPPED_RAM_VERSION) {
    const message = `its header has version ${block.headerVersion} instead of ${MAPPED_RAM_VERSION}`;
    yield { kind: 'header', where, message, fatal: false };
  }
  const expectedBitmap = headerOffset + MAPPED_RAM_HEADER_BYTES;
  const addressBehind = image.configuration.capabilities.includes('x-ignore-shared') ? 8 : 0;
  if (bitmapOffset !== expectedBitmap && bitmapOffset !== expectedBitmap + addressBehind) {
    const message = `its bitmap is at ${bitmapOffset} instead of right behind its header at ${expectedBitmap}`;
    yield { kind: 'header', where, message, fatal: false };
  }
  if (pagesOffset % pageSize !== 0) {
    const message = `its pages are at ${pagesOffset}, not a multiple of the page size ${pageSize}`;
    yield { kind: 'alignment', where, message, fatal: true };
  } else if (pagesOffset % QEMU_ALIGNMENT !== 0) {
    const message = `its pages are at ${pagesOffset}, not a multiple of 1 MiB`;
    yield { kind: 'alignment', where, message, fatal: false };
  }
  const stray = bitmap.strayBits();
  if (stray > 0) {
    const message = `${stray} bits are set past its last page, ${block.pageCount - 1}`;
    yield { kind: 'bitmap', where, message, fatal: true };
  }
  const available = Math.max(0, Math.floor((image.source.byteLength - pagesOffset) / pageSize));
  const firstMissing = bitmap.nextSet(Math.min(available, block.pageCount));
  if (firstMissing < block.pageCount) {
    const offset = pagesOffset + firstMissing * pageSize;
    const message = `page ${firstMissing} is marked as written at ${offset}, the file ends at ${image.source.byteLength}`;
    yield { kind: 'truncated', where, message, fatal: true };
  }
}

function* checkDevices(image: MappedRamImage): Generator<ImageProblem> {
  const seen = new Set<number>([image.ramSectionId]);
  for (const { kind, idstr, sectionId, description, delimitedBy } of image.devices) {
    if (kind === 'start' || kind === 'full') {
      if (seen.has(sectionId)) {
        const message = `its section id ${sectionId} is used twice`;
        yield { kind: 'device', where: idstr, message, fatal: true };
      }
      seen.add(sectionId);
    }
    if (delimitedBy === 'footer' && description !== undefined && !mayBeLonger(description)) {
      const message = 'its data do not have the length that the vmdescription gives';
      yield { kind: 'device', where: idstr, message, fatal: false };
    }
  }
  const present = new Set(image.devices.map(({ idstr, instanceId }) => deviceKey(idstr, instanceId)));
  for (const device of image.tail.description?.devices ?? []) {
    if (!present.has(deviceKey(device.name, device.instanceId))) {
      const message = `instance ${device.instanceId} is described but has no section`;
      yield { kind: 'device', where: device.name, message, fatal: false };
    }
  }
}
