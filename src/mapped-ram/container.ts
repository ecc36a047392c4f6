import { type FileOffset, fileOffset } from '../branded.js';
import { MapramError } from '../errors.js';
import { fileKind } from '../stream/file-kind.js';
import { STREAM_MAGIC } from '../stream/format.js';
import {
  decodeLibvirtData,
  decodeLibvirtHeader,
  LIBVIRT_HEADER_BYTES,
  type LibvirtFormat,
  type LibvirtHeader,
  libvirtMark,
} from '../stream/libvirt-header.js';
import type { ByteSource } from './byte-source.js';

/** What surrounds the migration stream in a file. */
export interface Container {
  kind: 'qemu' | 'libvirt';
  /** Where the stream's magic is. */
  offset: FileOffset;
  /** Of libvirt images: the header and the domain XML. */
  libvirt?: { header: LibvirtHeader; xml: string; cookie?: string };
  /** How libvirt compressed the stream; `offset` is then where the compressed bytes start. */
  compression?: Exclude<LibvirtFormat, 'raw' | 'sparse'>;
}

/** Domain XML and cookie together; libvirt's own are a few hundred KiB at most. */
const MAX_LIBVIRT_DATA_BYTES = 64 * 2 ** 20;

/** How far past libvirt's data the stream is looked for, at multiples of 512 bytes. */
const SEARCH_BYTES = 2 ** 20;

/**
 * Finds the migration stream that can be loaded from a file: at `offset` where one is given, else at the start, or
 * behind libvirt's header.
 *
 * @throws MapramError `FORMAT` saying what the file is instead, or that libvirt has marked it unfinished; `UNSUPPORTED`
 *   for a compressed libvirt image
 */
export async function findStream(source: ByteSource, offset?: number): Promise<Container> {
  const { name } = source;
  if (libvirtMark(await source.read(fileOffset(offset ?? 0), 16)) === 'partial') {
    throw new MapramError(
      'FORMAT',
      `opening ${name}: libvirt has marked it LibvirtQemudPart, its save did not finish; save again`,
      { path: name },
    );
  }
  const container = await findContainer(source, offset);
  if (container.compression !== undefined) {
    throw new MapramError(
      'UNSUPPORTED',
      `opening ${name}: its stream is compressed by libvirt (${container.compression}); save with save_image_format sparse or raw`,
      { path: name },
    );
  }
  return container;
}

/**
 * Finds the migration stream in a file, also in a libvirt image that is marked as unfinished or whose stream is
 * compressed.
 *
 * @throws MapramError `FORMAT` saying what the file is instead, `UNSUPPORTED` for a libvirt format that is not known
 */
export async function findContainer(source: ByteSource, offset?: number): Promise<Container> {
  const start = fileOffset(offset ?? 0);
  const head = await source.read(start, 36 * 1024);
  if (startsWithMagic(head, 0)) return { kind: 'qemu', offset: start };
  if (libvirtMark(head) !== undefined) return libvirtContainer(source, start, head);
  const kind = fileKind(head);
  const place = offset === undefined ? '' : ` at offset ${offset}`;
  throw new MapramError(
    'FORMAT',
    kind === undefined
      ? `opening ${source.name}: there is no migration stream${place}; give a file saved by QEMU or mapram, and the offset it was saved with`
      : `opening ${source.name}: it is ${kind}${place}, not a migration stream; ${adviceFor(kind)}`,
    { path: source.name, offset: start },
  );
}

function adviceFor(kind: string): string {
  return /gzip|bzip2|xz|zstd|lzop|lz4/.test(kind)
    ? 'decompress it first'
    : 'give a file saved by QEMU or mapram';
}

async function libvirtContainer(source: ByteSource, start: FileOffset, head: Uint8Array): Promise<Container> {
  const { name } = source;
  const header = decodeLibvirtHeader(head);
  if (header === undefined) {
    throw new MapramError(
      'FORMAT',
      `opening ${name}: its libvirt header is cut short or of an unknown version`,
      {
        path: name,
      },
    );
  }
  const dataStart = fileOffset(start + LIBVIRT_HEADER_BYTES);
  const streamStart = fileOffset(dataStart + header.dataLength);
  if (header.dataLength > MAX_LIBVIRT_DATA_BYTES || streamStart > source.byteLength) {
    throw new MapramError(
      'FORMAT',
      `opening ${name}: its libvirt header announces ${header.dataLength} bytes of XML, the file has ${source.byteLength} bytes`,
      { path: name, offset: start + 20 },
    );
  }
  const libvirt = {
    header,
    ...decodeLibvirtData(header, await source.read(dataStart, header.dataLength)),
  };
  if (header.format === undefined) {
    throw new MapramError(
      'UNSUPPORTED',
      `opening ${name}: its libvirt header names a format that is not known; save with save_image_format sparse or raw`,
      { path: name },
    );
  }
  if (header.format !== 'raw' && header.format !== 'sparse') {
    return { kind: 'libvirt', offset: streamStart, libvirt, compression: header.format };
  }
  const area = await source.read(streamStart, SEARCH_BYTES + 4);
  if (startsWithMagic(area, 0)) return { kind: 'libvirt', offset: streamStart, libvirt };
  // Tolerates a libvirt that aligns the stream.
  for (let offset = Math.ceil(streamStart / 512) * 512; offset - streamStart <= SEARCH_BYTES; offset += 512) {
    if (startsWithMagic(area, offset - streamStart))
      return { kind: 'libvirt', offset: fileOffset(offset), libvirt };
  }
  throw new MapramError('FORMAT', `opening ${name}: there is no migration stream behind its libvirt header`, {
    path: name,
    offset: streamStart,
  });
}

function startsWithMagic(bytes: Uint8Array, at: number): boolean {
  if (at + 4 > bytes.byteLength) return false;
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(at) === STREAM_MAGIC;
}
