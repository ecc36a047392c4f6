/** A guest that needs no system: its boot sector writes to the disk it lies on, for ever, by the services of the BIOS. */

const SECTOR_BYTES = 512;

/** Where a BIOS loads a boot sector. */
const LOAD_ADDRESS = 0x7c00;
/** Of the memory that is written to the disk: one sector, whose first word counts the writes. */
const BUFFER_ADDRESS = 0x7e00;
/** Between two writes, in sectors: one cluster of qcow2, so that each of them makes such an image grow. */
const STRIDE_SECTORS = 128;

/**
 * A raw image of `bytes`, at least 33 MiB, to be the first disk of a `pc` or `q35` machine.
 *
 * ```
 * 0    xor ax,ax; mov ds,ax
 * 4    loop: mov si,packet; mov ax,0x4300; mov dl,0x80; int 0x13      write by LBA
 *      inc word [buffer]; add word [packet + 8],128; jmp loop
 * 32   packet: size 16, 0, sectors 1 (le16), buffer (offset, segment), LBA (le64)
 * 510  55 aa
 * ```
 */
export function diskWriterImage(bytes: number): Buffer {
  const image = Buffer.alloc(bytes);
  const packet = LOAD_ADDRESS + 32;
  const word = (value: number) => [value & 0xff, value >> 8];
  const code = [
    ...[0x31, 0xc0, 0x8e, 0xd8],
    ...[0xbe, ...word(packet), 0xb8, 0x00, 0x43, 0xb2, 0x80, 0xcd, 0x13],
    ...[0xff, 0x06, ...word(BUFFER_ADDRESS)],
    ...[0x81, 0x06, ...word(packet + 8), ...word(STRIDE_SECTORS)],
  ];
  const back = 4 - (code.length + 2);
  image.set([...code, 0xeb, back & 0xff]);
  image.set([16, 0, ...word(1), ...word(BUFFER_ADDRESS), ...word(0), ...word(STRIDE_SECTORS)], 32);
  image.writeUInt16LE(0xaa55, SECTOR_BYTES - 2);
  return image;
}
