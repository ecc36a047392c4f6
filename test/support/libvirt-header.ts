/** Headers as libvirt writes them, for files that libvirt has not made. */
import {
  LIBVIRT_HEADER_BYTES,
  type LibvirtFormat,
  type LibvirtHeader,
} from '../../src/stream/libvirt-header.js';

const FORMAT_NUMBERS: Readonly<Record<LibvirtFormat, number>> = {
  ...{ raw: 0, gzip: 1, bzip2: 2, xz: 3 },
  ...{ lzop: 4, zstd: 5, sparse: 6 },
};

export function encodeLibvirtHeader(header: LibvirtHeader & { format: LibvirtFormat }): Uint8Array {
  const bytes = new Uint8Array(LIBVIRT_HEADER_BYTES);
  bytes.set(new TextEncoder().encode(header.complete ? 'LibvirtQemudSave' : 'LibvirtQemudPart'));
  const view = new DataView(bytes.buffer);
  view.setUint32(16, header.version, header.littleEndian);
  view.setUint32(20, header.dataLength, header.littleEndian);
  view.setUint32(24, header.wasRunning ? 1 : 0, header.littleEndian);
  view.setUint32(28, FORMAT_NUMBERS[header.format], header.littleEndian);
  view.setUint32(32, header.cookieOffset, header.littleEndian);
  return bytes;
}
