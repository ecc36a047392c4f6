/** What a file that is not a migration stream is, going by its first bytes. */
const SIGNATURES: readonly [kind: string, offset: number, ...bytes: number[]][] = [
  ['a gzip file', 0, 0x1f, 0x8b],
  ['a bzip2 file', 0, 0x42, 0x5a, 0x68],
  ['an xz file', 0, 0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00],
  ['a zstd file', 0, 0x28, 0xb5, 0x2f, 0xfd],
  ['an lzop file', 0, 0x89, 0x4c, 0x5a, 0x4f],
  ['an lz4 file', 0, 0x04, 0x22, 0x4d, 0x18],
  ['a zip file', 0, 0x50, 0x4b, 0x03, 0x04],
  ['a tar archive', 257, 0x75, 0x73, 0x74, 0x61, 0x72],
  ['a qcow2 disk image', 0, 0x51, 0x46, 0x49, 0xfb],
  ['a VMDK disk image', 0, 0x4b, 0x44, 0x4d, 0x56],
  ['a VHDX disk image', 0, 0x76, 0x68, 0x64, 0x78],
  ['an ELF file', 0, 0x7f, 0x45, 0x4c, 0x46],
  ['a kdump file', 0, 0x4b, 0x44, 0x55, 0x4d, 0x50],
  ['a multifd channel of a migration', 0, 0x11, 0x22, 0x33, 0x44],
  ['a JSON file', 0, 0x7b, 0x22],
  ['a script', 0, 0x23, 0x21],
  ['an ISO 9660 image', 0x8001, 0x43, 0x44, 0x30, 0x30, 0x31],
  ['a disk image with a boot sector', 510, 0x55, 0xaa],
];

/**
 * What to call a file in an error, e.g. "a gzip file"; `undefined` for one that is not recognised.
 *
 * @param head the first bytes of the file, all of them or at least 33 KiB for every kind to be recognised
 */
export function fileKind(head: Uint8Array): string | undefined {
  if (head.byteLength === 0) return 'an empty file';
  for (const [kind, offset, ...bytes] of SIGNATURES) {
    if (bytes.every((byte, index) => head[offset + index] === byte)) return kind;
  }
  return head.every((byte) => byte === 0) ? 'all zeros' : undefined;
}
