/**
 * The header with which libvirt opens the files of `virsh save` and `managedsave`.
 *
 * ```text
 * off  width
 *   0  16     "LibvirtQemudSave", or "LibvirtQemudPart" while the save is not finished
 *  16  u32    version        2; older files may have 1
 *  20  u32    data_len       bytes of XML, cookie and padding behind this header
 *  24  u32    was_running    1 if the VM is to run after loading, else 0
 *  28  u32    format         see `LIBVIRT_FORMATS`
 *  32  u32    cookieOffset   where in the data the cookie starts, 0 if there is none
 *  36  u32    unused[14]
 *  92  data   domain XML, NUL, cookie XML, NUL, zeros for later growth of the XML
 *      …      the migration stream, compressed unless format is raw or sparse; sparse is mapped-ram
 * ```
 *
 * Integers are in the byte order of the host that saved: a version that is too large means the other order.
 */
export const LIBVIRT_HEADER_BYTES = 92;

const COMPLETE_MAGIC = 'LibvirtQemudSave';
const PARTIAL_MAGIC = 'LibvirtQemudPart';

/** Formats by their number in the header. */
const LIBVIRT_FORMATS = ['raw', 'gzip', 'bzip2', 'xz', 'lzop', 'zstd', 'sparse'] as const;

export type LibvirtFormat = (typeof LIBVIRT_FORMATS)[number];

export interface LibvirtHeader {
  /** False for the `…Part` mark: libvirt was saving or had failed. */
  complete: boolean;
  version: number;
  dataLength: number;
  wasRunning: boolean;
  /** `undefined` for a number that no known libvirt writes. */
  format: LibvirtFormat | undefined;
  cookieOffset: number;
  littleEndian: boolean;
}

/** Newest version taken for possible; libvirt 11.3 writes 2. */
const MAX_VERSION = 3;

/** Which mark of libvirt `bytes` begin with, if any. 16 bytes are enough. */
export function libvirtMark(bytes: Uint8Array): 'complete' | 'partial' | undefined {
  const magic = String.fromCharCode(...bytes.subarray(0, 16));
  if (magic === COMPLETE_MAGIC) return 'complete';
  return magic === PARTIAL_MAGIC ? 'partial' : undefined;
}

/**
 * Reads the header. `undefined` when the bytes are not one, are fewer than 92, or have a version that is unknown
 * in either byte order.
 */
export function decodeLibvirtHeader(bytes: Uint8Array): LibvirtHeader | undefined {
  const mark = libvirtMark(bytes);
  if (bytes.byteLength < LIBVIRT_HEADER_BYTES || mark === undefined) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, LIBVIRT_HEADER_BYTES);
  const littleEndian = view.getUint32(16, true) <= MAX_VERSION;
  const version = view.getUint32(16, littleEndian);
  if (version > MAX_VERSION) return undefined;
  return {
    complete: mark === 'complete',
    version,
    dataLength: view.getUint32(20, littleEndian),
    wasRunning: view.getUint32(24, littleEndian) !== 0,
    format: LIBVIRT_FORMATS[view.getUint32(28, littleEndian)],
    cookieOffset: view.getUint32(32, littleEndian),
    littleEndian,
  };
}

/** The 92 bytes of a header. */
export function encodeLibvirtHeader(header: LibvirtHeader & { format: LibvirtFormat }): Uint8Array {
  const { complete, littleEndian, version, dataLength, wasRunning, format, cookieOffset } = header;
  const bytes = new Uint8Array(LIBVIRT_HEADER_BYTES);
  bytes.set(new TextEncoder().encode(complete ? COMPLETE_MAGIC : PARTIAL_MAGIC));
  const view = new DataView(bytes.buffer);
  const numbers = [version, dataLength, Number(wasRunning), LIBVIRT_FORMATS.indexOf(format), cookieOffset];
  for (const [index, number] of numbers.entries()) view.setUint32(16 + index * 4, number, littleEndian);
  return bytes;
}

/**
 * What follows the header: domain XML and cookie at their places, zeros for the rest.
 *
 * @throws RangeError when they do not fit into what the header gives them
 */
export function encodeLibvirtData(
  { dataLength, cookieOffset }: LibvirtHeader,
  { xml, cookie }: { xml: string; cookie?: string },
): Uint8Array {
  const data = new Uint8Array(dataLength);
  const encoder = new TextEncoder();
  const put = (text: string, start: number, end: number): void => {
    const bytes = encoder.encode(text);
    if (start + bytes.byteLength >= end) throw new RangeError('the domain XML does not fit into the header');
    data.set(bytes, start);
  };
  put(xml, 0, cookie === undefined ? dataLength : cookieOffset);
  if (cookie !== undefined) put(cookie, cookieOffset, dataLength);
  return data;
}

/** Domain XML and cookie from the `dataLength` bytes behind the header. */
export function decodeLibvirtData(header: LibvirtHeader, data: Uint8Array): { xml: string; cookie?: string } {
  const { cookieOffset } = header;
  if (cookieOffset === 0) return { xml: upToNul(data) };
  return { xml: upToNul(data.subarray(0, cookieOffset)), cookie: upToNul(data.subarray(cookieOffset)) };
}

function upToNul(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(end === -1 ? bytes : bytes.subarray(0, end));
}
