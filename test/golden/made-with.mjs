// What the golden files are made with, of QEMU alone (make.mjs) and of libvirt (make-libvirt.mjs).
import { createHash } from 'node:crypto';

/**
 * 64 KiB of firmware in place of SeaBIOS, in 16-bit code. All of them write their segment number into every other page
 * from 64 KiB to 576 KiB, then
 * - `halting`: halt,
 * - `counting`: count up in the first of these pages for ever,
 * - `flipping`: zero every second of these pages, then the others, for ever, so that pages become zero while they
 *   are saved.
 */
export function firmware(kind) {
  const image = Buffer.alloc(65536);
  const fill = [
    ...[0xb8, 0x00, 0x10], //    mov  ax, 0x1000
    ...[0x8e, 0xd8], //       1: mov  ds, ax
    ...[0xa3, 0x00, 0x00], //    mov  [0], ax
    ...[0x05, 0x00, 0x02], //    add  ax, 0x200
    ...[0x3d, 0x00, 0x90], //    cmp  ax, 0x9000
    ...[0x72, 0xf3], //          jb   1b
  ];
  const flip = [
    ...[0x31, 0xdb], //             xor  bx, bx
    ...[0xb8, 0x00, 0x10], //    1: mov  ax, 0x1000
    ...[0x8e, 0xd8], //          2: mov  ds, ax
    ...[0x89, 0x1e, 0x00, 0x00], // mov  [0], bx
    ...[0xf7, 0xd3], //             not  bx
    ...[0x05, 0x00, 0x02], //       add  ax, 0x200
    ...[0x3d, 0x00, 0x90], //       cmp  ax, 0x9000
    ...[0x72, 0xf0], //             jb   2b
    ...[0xf7, 0xd3], //             not  bx
    ...[0xb9, 0xff, 0xff], //       mov  cx, 0xffff
    ...[0xe2, 0xfe], //          3: loop 3b
    ...[0xeb, 0xe4], //             jmp  1b
  ];
  const endings = {
    halting: [0xf4, 0xeb, 0xfd], // 1: hlt; jmp 1b
    counting: [
      ...[0xb8, 0x00, 0x10, 0x8e, 0xd8], // mov ax, 0x1000; mov ds, ax
      ...[0xff, 0x06, 0x10, 0x00], //      1: inc word [0x10]
      ...[0xeb, 0xfa], //                     jmp 1b
    ],
    flipping: flip,
  };
  Buffer.from([...fill, ...endings[kind]]).copy(image);
  Buffer.from([0xea, 0x00, 0x00, 0x00, 0xf0]).copy(image, 0xfff0); // jmp 0xf000:0
  return image;
}

export const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');

/** A line of `info ramblock`: name, page size, offset, used, total, host address, read-only. */
export function ramBlock(line) {
  const [, idstr, used] = /^\s*(\S+)\s+\d+ \S+\s+0x[0-9a-f]+\s+0x([0-9a-f]+)/i.exec(line) ?? [];
  return { idstr, usedLength: Number.parseInt(used, 16) };
}
