/**
 * An ELF core of guest-physical memory, for gdb, crash, drgn and volatility.
 *
 * ```text
 * 0        ELF header: ELF64 (of 32-bit ARM: ELF32), little-endian, ET_CORE, machine of the guest
 * 64 | 52  program headers, 56 or 32 bytes each: one PT_NOTE, one PT_LOAD a region of guest memory, and one more for the
 *          kernel's image where Linux tells where that is
 * …        notes: NT_PRSTATUS and, on x86, "QEMU" for each cpu, then VMCOREINFO if the guest has one
 * aligned  the regions' bytes, each whole; zero pages are holes
 * ```
 *
 * `p_paddr` is the guest-physical address. `p_vaddr` is the same, so that gdb, which knows of virtual addresses only,
 * reads guest-physical ones. The kernel's image is there a second time under its virtual addresses, as in cores that
 * Linux makes of itself: debuggers need it to find the page tables that lead to everything else.
 */
import { MapramError } from '../errors.js';
import { truncateFile } from '../io/file/file-space.js';
import { writeFully } from '../io/file/positional-io.js';
import { roundUp } from '../mapped-ram/layout.js';
import { type CopyOptions, type CopyRange, copyPages } from './copy-pages.js';
import { cpusOf, type GuestArchitecture } from './elf-cpu.js';
import { elfNote } from './elf-notes.js';
import type { SavedVm } from './saved-vm.js';
import {
  findVmcoreinfo,
  type KernelImage,
  kernelImage,
  VMCOREINFO_SPACE,
  vmcoreinfoOfPage,
} from './vmcoreinfo.js';

const ELF_HEADER_BYTES = { 32: 52, 64: 64 };
const PROGRAM_HEADER_BYTES = { 32: 32, 64: 56 };
const ET_CORE = 4;
const PT_LOAD = 1;
const PT_NOTE = 4;
const READ_WRITE_EXECUTE = 7;
const ALIGNMENT = 4096;
/** `e_phnum` has 16 bits; its largest value is an escape. */
const MAX_PROGRAM_HEADERS = 0xfffe;

export interface ElfResult {
  /** Length of the file; holes included. */
  readonly fileBytes: number;
  readonly writtenBytes: number;
  readonly cpus: number;
  /** Whether the note that Linux leaves for debuggers was found. */
  readonly vmcoreinfo: boolean;
  readonly regions: readonly { idstr: string; start: number; length: number }[];
  /** Blocks that are not in the core: it is not known where they lie. */
  readonly omitted: readonly string[];
}

/**
 * Writes the core of a saved VM.
 *
 * @param fd an empty file, open for writing
 * @throws MapramError `UNSUPPORTED` where it is not known where memory lies or what the processor is
 */
export async function writeElf(saved: SavedVm, fd: number, options: CopyOptions = {}): Promise<ElfResult> {
  const { path, guestMap } = saved;
  const { architecture, cpus } = cpusOf(saved);
  if (architecture === undefined) {
    throw new MapramError(
      'UNSUPPORTED',
      `converting ${path} to ELF: machine type ${saved.configuration.machine || '(unknown)'} has a processor for which there is no ELF form here; use --to raw`,
      { path },
    );
  }
  const { regions } = guestMap;
  if (regions.length === 0 || regions.length + 1 > MAX_PROGRAM_HEADERS) {
    throw new MapramError(
      'UNSUPPORTED',
      `converting ${path} to ELF: it is not known where its memory lies in the guest (blocks ${guestMap.unplaced.join(', ')}); use --to raw`,
      { path },
    );
  }
  const cpuNotes = Buffer.concat(cpus.flatMap((cpu, index) => architecture.notes(cpu, index)));
  const { bits } = architecture;
  const notesOffset = ELF_HEADER_BYTES[bits] + PROGRAM_HEADER_BYTES[bits] * (regions.length + 2);
  let position = roundUp(notesOffset + cpuNotes.byteLength + VMCOREINFO_SPACE, ALIGNMENT);
  const ranges = regions.map(({ idstr, start, length, blockOffset }): CoreRange => {
    const block = saved.block(idstr);
    if (block === undefined) throw new RangeError(`no block ${idstr}`);
    const range = { block, offset: blockOffset, length, position, start };
    position += roundUp(length, ALIGNMENT);
    return range;
  });
  const end = regions.reduce((most, { start, length }) => Math.max(most, start + length), position);
  if (bits === 32 && end > 2 ** 32) {
    throw new MapramError(
      'UNSUPPORTED',
      `converting ${path} to ELF: it has a 32-bit processor and memory beyond what ELF32 can hold, 4 GiB; use --to raw`,
      { path },
    );
  }
  truncateFile(fd, position);
  let vmcoreinfo = await findVmcoreinfo(saved);
  const { writtenBytes } = await copyPages(saved, ranges, fd, {
    ...options,
    onPage: (page) => {
      vmcoreinfo ??= vmcoreinfoOfPage(page);
    },
  });
  const segments = ranges.map(loadSegment);
  const image =
    vmcoreinfo === undefined || bits === 32 ? undefined : kernelImage(vmcoreinfo.toString('latin1'));
  if (image !== undefined) segments.push(...imageSegment(image, ranges));
  const notes =
    vmcoreinfo === undefined ? cpuNotes : Buffer.concat([cpuNotes, elfNote('VMCOREINFO', 0, vmcoreinfo)]);
  writeFully(fd, Buffer.concat([headers(architecture, segments, notesOffset, notes.byteLength), notes]), 0);
  return {
    fileBytes: position,
    writtenBytes,
    cpus: cpus.length,
    vmcoreinfo: vmcoreinfo !== undefined,
    regions: regions.map(({ idstr, start, length }) => ({ idstr, start, length })),
    omitted: guestMap.unplaced,
  };
}

/** A part of guest memory in the core. `start` is its guest-physical address. */
type CoreRange = CopyRange & { start: number };

function loadSegment({ position, start, length }: CoreRange): ProgramHeader {
  return { type: PT_LOAD, offset: position, virtual: BigInt(start), physical: start, length };
}

/** The kernel's image under its virtual addresses: the bytes that a segment has already. */
function imageSegment(
  { virtual, physical, length }: KernelImage,
  ranges: readonly CoreRange[],
): ProgramHeader[] {
  const range = ranges.find(({ start, length: size }) => physical >= start && physical < start + size);
  if (range === undefined) return [];
  const inside = physical - range.start;
  return [
    {
      ...{ type: PT_LOAD, offset: range.position + inside, virtual, physical },
      length: Math.min(length, range.length - inside),
    },
  ];
}

function headers(
  { elfMachine, bits }: GuestArchitecture,
  segments: readonly ProgramHeader[],
  notesOffset: number,
  notesLength: number,
): Buffer {
  const header = Buffer.alloc(ELF_HEADER_BYTES[bits]);
  header.set([0x7f, 0x45, 0x4c, 0x46, bits / 32, 1, 1]);
  header.writeUInt16LE(ET_CORE, 16);
  header.writeUInt16LE(elfMachine, 18);
  header.writeUInt32LE(1, 20);
  // Where the program headers are is an address of its own width; what follows lies behind two of these and e_flags.
  header.writeUInt32LE(header.length, bits === 32 ? 28 : 32);
  const sizes = bits === 32 ? 40 : 52;
  header.writeUInt16LE(header.length, sizes);
  header.writeUInt16LE(PROGRAM_HEADER_BYTES[bits], sizes + 2);
  header.writeUInt16LE(segments.length + 1, sizes + 4);
  const notes = { type: PT_NOTE, offset: notesOffset, virtual: 0n, physical: 0, length: notesLength };
  const write = bits === 32 ? programHeader32 : programHeader;
  const programHeaders = Buffer.concat([notes, ...segments].map(write));
  return Buffer.concat([header, programHeaders], notesOffset);
}

interface ProgramHeader {
  type: number;
  offset: number;
  virtual: bigint;
  physical: number;
  length: number;
}

function programHeader({ type, offset, virtual, physical, length }: ProgramHeader): Buffer {
  const header = Buffer.alloc(PROGRAM_HEADER_BYTES[64]);
  header.writeUInt32LE(type, 0);
  if (type === PT_LOAD) header.writeUInt32LE(READ_WRITE_EXECUTE, 4);
  for (const [at, value] of [
    [8, offset],
    [16, virtual],
    [24, physical],
    [32, length],
    [40, length],
  ] as const) {
    header.writeBigUInt64LE(BigInt(value), at);
  }
  return header;
}

function programHeader32({ type, offset, virtual, physical, length }: ProgramHeader): Buffer {
  const header = Buffer.alloc(PROGRAM_HEADER_BYTES[32]);
  const flags = type === PT_LOAD ? READ_WRITE_EXECUTE : 0;
  for (const [index, value] of [type, offset, Number(virtual), physical, length, length, flags].entries()) {
    header.writeUInt32LE(value, index * 4);
  }
  return header;
}
