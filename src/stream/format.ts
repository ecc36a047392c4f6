/**
 * Constants of QEMU's migration stream. All integers in it are big-endian.
 *
 * ```text
 * "QEVM"  be32 3
 * 07  CONFIGURATION
 * 01  START  ram   records, 10 (EOS)   7e be32 section_id
 * 02  PART   ram   records, EOS        7e be32 section_id     any number of rounds
 * 08  COMMAND switchover-start                                10.0 machine types and later
 * 03  END    ram   records, EOS        7e be32 section_id
 * 04  FULL   one for each device       7e be32 section_id
 * 00  EOF
 * 06  VMDESCRIPTION  be32 length, JSON
 * ```
 */
export const STREAM_MAGIC = 0x5145564d;
export const STREAM_VERSION = 3;

/** The type byte that opens each part of the stream. */
export const SectionType = {
  EOF: 0x00,
  START: 0x01,
  PART: 0x02,
  END: 0x03,
  FULL: 0x04,
  SUBSECTION: 0x05,
  VMDESCRIPTION: 0x06,
  CONFIGURATION: 0x07,
  COMMAND: 0x08,
  FOOTER: 0x7e,
} as const;

export type SectionKind = 'start' | 'part' | 'end' | 'full';

export const SECTION_TYPE_OF_KIND: Readonly<Record<SectionKind, number>> = {
  start: SectionType.START,
  part: SectionType.PART,
  end: SectionType.END,
  full: SectionType.FULL,
};

/** Flags in the low bits of a RAM record's first word. */
export const RamFlag = {
  FULL: 0x01,
  ZERO: 0x02,
  MEM_SIZE: 0x04,
  PAGE: 0x08,
  EOS: 0x10,
  CONTINUE: 0x20,
  XBZRLE: 0x40,
  HOOK: 0x80,
  COMPRESS_PAGE: 0x100,
  MULTIFD_FLUSH: 0x200,
} as const;

export const RAM_SECTION_IDSTR = 'ram';
export const RAM_SECTION_VERSION = 4;

/** Commands by number, with the length of their data where QEMU fixes it (`undefined`: any length). */
export const COMMANDS = {
  'open-return-path': { value: 1, length: 0 },
  ping: { value: 2, length: 4 },
  'postcopy-advise': { value: 3, length: undefined },
  'postcopy-listen': { value: 4, length: 0 },
  'postcopy-run': { value: 5, length: 0 },
  'postcopy-ram-discard': { value: 6, length: undefined },
  packaged: { value: 7, length: 4 },
  'enable-colo': { value: 8, length: 0 },
  'postcopy-resume': { value: 9, length: 0 },
  'recv-bitmap': { value: 10, length: undefined },
  'switchover-start': { value: 11, length: 0 },
} as const satisfies Record<string, { value: number; length: number | undefined }>;

export type StreamCommandName = keyof typeof COMMANDS;

const COMMAND_NAMES = new Map<number, StreamCommandName>(
  (Object.keys(COMMANDS) as StreamCommandName[]).map((name) => [COMMANDS[name].value, name]),
);

/** The name of command number `value`, or `undefined` for one that is not known. */
export function commandName(value: number): StreamCommandName | undefined {
  return COMMAND_NAMES.get(value);
}

/**
 * What a reader accepts at most; larger values are taken for damage. Those that bound sums keep the memory that reading takes
 * below 256 MiB, whatever a file claims and however large it is.
 */
export const StreamLimit = {
  MACHINE_NAME_BYTES: 1024,
  CAPABILITIES: 1024,
  RAM_BLOCKS: 4096,
  /** Everything but RAM together: sections of devices, commands with their data, the vmdescription. */
  DEVICE_BYTES: 64 * 2 ** 20,
  /** A section of unknown format whose end must be searched for. */
  UNDELIMITED_SECTION_BYTES: 16 * 2 ** 20,
  /** What a section or command counts as beside its data, since that is about the memory it takes: there can be 65,536. */
  SECTION_BYTES: 1024,
  /** x86 has 32 MB at 4096 processors. */
  VMDESCRIPTION_BYTES: 40 * 2 ** 20,
  /** One that is not ASCII, as a manifest with names of files may be: in memory it takes twice as much. */
  WIDE_VMDESCRIPTION_BYTES: 16 * 2 ** 20,
} as const;

/** Of a page as one zlib stream; zlib's worst case is 5 bytes for each block of 16 KiB, and 6 of frame. */
export const maxCompressedBytes = (pageSize: number): number => pageSize + 64;

/** Machines of sparc64 and alpha. */
const PAGES_OF_8_KIB = /^(sun4u|sun4v|niagara|clipper)/;

/**
 * Boards of QEMU's arm and aarch64. Their pages have as many bits as the machine wants, and the stream says how many unless it
 * is the fewest that the processor can have: ten.
 */
const PAGES_OF_1_KIB = new RegExp(
  `^(${[
    String.raw`ast\d+ akita b-l475e bletchley borzoi bpim2u canon-a1100 cheetah collie connex cubieboard emcraft fby35 fp5280g2`,
    'fuji g220a highbank imx integratorcp kudo kzm lm3s mainstone mcimx microbit midway mori-bmc mps[23]- musca musicpal',
    'n8[01]0 netduino npcm nuri olimex orangepi palmetto qcom- quanta- rainier raspi realview romulus sabrelite sbsa-ref',
    'smdkc210 sonorapass spitz stm32 supermicro swift-bmc sx1 terrier tiogapass tosa verdex versatile vexpress witherspoon',
    'xilinx-zynq xlnx- yosemitev2 z2$',
  ]
    .join(' ')
    .replaceAll(' ', '|')})`,
);

/** Page size of a machine when the stream does not tell: 4 KiB for x86 and most others. */
export function defaultPageSize(machine: string | undefined): number {
  if (machine === undefined) return 4096;
  if (PAGES_OF_8_KIB.test(machine)) return 8192;
  return PAGES_OF_1_KIB.test(machine) ? 1024 : 4096;
}
