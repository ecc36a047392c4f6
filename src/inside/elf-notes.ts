/**
 * ELF notes.
 *
 * ```text
 * u32 namesz   with NUL
 * u32 descsz
 * u32 type
 * name, padded to 4 bytes
 * desc, padded to 4 bytes
 * ```
 */
import { fieldOf, firstDevice } from './device-fields.js';
import type { SavedVm } from './saved-vm.js';

export function elfNote(name: string, type: number, description: Uint8Array): Buffer {
  const text = Buffer.from(`${name}\0`);
  const header = Buffer.alloc(12);
  header.writeUInt32LE(text.length, 0);
  header.writeUInt32LE(description.byteLength, 4);
  header.writeUInt32LE(type, 8);
  return Buffer.concat([header, padded(text), padded(description)]);
}

function padded(bytes: Uint8Array): Buffer {
  const length = Math.ceil(bytes.byteLength / 4) * 4;
  return Buffer.concat([bytes, Buffer.alloc(length - bytes.byteLength)], length);
}

/** Linux keeps its note within one page. */
const MAX_VMCOREINFO_BYTES = 4096;

/** Room for the note in a file. */
export const VMCOREINFO_SPACE = MAX_VMCOREINFO_BYTES + 64;

const NAME = Buffer.from('VMCOREINFO\0\0');
const FIRST_LINE = Buffer.from('OSRELEASE=');

/**
 * The text that Linux leaves for debuggers, if `page` begins with its note. The kernel allocates whole pages for it.
 */
export function vmcoreinfoOfPage(page: Buffer): Buffer | undefined {
  const text = 12 + NAME.length;
  if (page.length < text || page.readUInt32LE(0) !== NAME.length - 1) return undefined;
  if (page.compare(NAME, 0, NAME.length, 12, text) !== 0) return undefined;
  const length = page.readUInt32LE(4);
  if (length > MAX_VMCOREINFO_BYTES || text + length > page.length) return undefined;
  const found = page.subarray(text, text + length);
  return found.indexOf(FIRST_LINE) === 0 ? Buffer.from(found) : undefined;
}

/** The same text where the guest told QEMU's `vmcoreinfo` device about it. */
export async function findVmcoreinfo(saved: SavedVm): Promise<Buffer | undefined> {
  const device = firstDevice(saved, 'vmcoreinfo');
  if (device === undefined) return undefined;
  const address = fieldOf(device, 'vmcoreinfo.paddr');
  const size = fieldOf(device, 'vmcoreinfo.size');
  if (typeof address !== 'bigint' || typeof size !== 'number' || size === 0) return undefined;
  if (address > BigInt(Number.MAX_SAFE_INTEGER) || size > VMCOREINFO_SPACE) return undefined;
  try {
    return vmcoreinfoOfPage(Buffer.from(await saved.read(Number(address), size)));
  } catch (error) {
    // The guest may have told any address.
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}
