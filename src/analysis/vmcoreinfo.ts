/**
 * VMCOREINFO: lines like `OSRELEASE=6.1.0` and `SYMBOL(_stext)=ffffffff81000000` that Linux keeps for debuggers, as an ELF
 * note at the start of a page of its own. A guest with the device `vmcoreinfo` tells QEMU where.
 */
import { fieldOf, firstDevice } from './device-fields.js';
import type { SavedVm } from './saved-vm.js';

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

/** Where Linux lies in virtual and guest-physical memory. */
export interface KernelImage {
  virtual: bigint;
  physical: number;
  /** The most that it can have. */
  length: number;
}

/** Virtual address at which x86-64 Linux maps its image, and for how long at most. */
const X86_KERNEL_MAP = 0xffff_ffff_8000_0000n;
const X86_KERNEL_MAP_BYTES = 2n ** 30n;
const X86_IMAGE_ALIGNMENT = 2n ** 21n;

/** The image's place, as x86-64 Linux tells it. */
export function kernelImage(vmcoreinfo: string): KernelImage | undefined {
  const text = /^SYMBOL\(_stext\)=([0-9a-f]{16})$/m.exec(vmcoreinfo)?.[1];
  const base = /^NUMBER\(phys_base\)=(-?\d{1,16})$/m.exec(vmcoreinfo)?.[1];
  if (text === undefined || base === undefined) return undefined;
  const start = BigInt(`0x${text}`);
  const virtual = start - (start % X86_IMAGE_ALIGNMENT);
  const offset = virtual - X86_KERNEL_MAP;
  const physical = Number(offset + BigInt(base));
  if (offset < 0n || offset >= X86_KERNEL_MAP_BYTES || !Number.isSafeInteger(physical) || physical < 0) {
    return undefined;
  }
  return { virtual, physical, length: Number(X86_KERNEL_MAP_BYTES - offset) };
}
