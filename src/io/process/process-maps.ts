/**
 * Which files are mapped into a process, and how to open them: the way to the RAM of a running QEMU.
 *
 * ```
 * 7f5a40000000-7f5a80000000 rw-s 00000000 00:19 1234    /dev/shm/guest.ram
 * ^start       ^end         ^prot ^offset  ^dev  ^inode  ^path, "(deleted)" appended when it has none any more
 * ```
 */
import { fstatSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { errorReason, MapramError } from '../../errors.js';
import { openAfterLook } from '../file/open-file.js';
import { MemoryMap } from '../memory/memory-map.js';

export interface ProcessMapping {
  /** Address in that process. */
  start: bigint;
  length: number;
  readable: boolean;
  writable: boolean;
  /** MAP_SHARED: writes reach the file. */
  shared: boolean;
  /** First byte of the file. */
  offset: number;
  /** `major:minor` in hexadecimal, as the kernel prints it. */
  device: string;
  inode: number;
  /** Without the mark for deleted files; newlines are unescaped. */
  path: string;
  /** The file has no name any more (memfd, unlinked). */
  deleted: boolean;
}

const LINE = /^([0-9a-f]+)-([0-9a-f]+) ([r-])([w-])[x-]([sp]) ([0-9a-f]+) ([0-9a-f]+:[0-9a-f]+) (\d+) *(.*)$/;
const DELETED = ' (deleted)';

/** The mappings of files in the text of `/proc/PID/maps`; anonymous memory and special areas are left out. */
export function parseProcessMaps(text: string): ProcessMapping[] {
  const mappings: ProcessMapping[] = [];
  for (const line of text.split('\n')) {
    const [, start, end, read, write, sharing, offset, device, inode, name] = LINE.exec(line) ?? [];
    if (start === undefined || end === undefined || device === undefined || inode === '0') continue;
    const deleted = name?.endsWith(DELETED) ?? false;
    const path = (deleted ? name?.slice(0, -DELETED.length) : name) ?? '';
    mappings.push({
      start: BigInt(`0x${start}`),
      length: Number(BigInt(`0x${end}`) - BigInt(`0x${start}`)),
      readable: read === 'r',
      writable: write === 'w',
      shared: sharing === 's',
      offset: Number.parseInt(offset ?? '0', 16),
      device,
      inode: Number(inode),
      path: path.replaceAll('\\012', '\n'),
      deleted,
    });
  }
  return joinNeighbours(mappings);
}

/** One mapping may be shown in pieces, after `mprotect` or `mbind` on a part of it. */
function joinNeighbours(mappings: ProcessMapping[]): ProcessMapping[] {
  const joined: ProcessMapping[] = [];
  for (const mapping of mappings) {
    const last = joined.at(-1);
    if (
      last !== undefined &&
      last.start + BigInt(last.length) === mapping.start &&
      last.offset + last.length === mapping.offset &&
      last.device === mapping.device &&
      last.inode === mapping.inode &&
      last.shared === mapping.shared &&
      last.writable === mapping.writable
    ) {
      last.length += mapping.length;
    } else {
      joined.push({ ...mapping });
    }
  }
  return joined;
}

/** How the kernel tells a file in lists of mappings: not on every file system (Btrfs, overlayfs) as fstat does. */
export type MappedFile = Pick<ProcessMapping, 'device' | 'inode'>;

/**
 * How an open file would be shown where it is mapped.
 *
 * @throws MapramError `IO` for a file that cannot be mapped, an empty one among others
 */
export function mappedFile(fd: number): MappedFile {
  using map = MemoryMap.open({ fd, offset: 0, length: 1 });
  const { address } = map.address;
  const found = readProcessMaps(process.pid).find(
    ({ start, length }) => start <= address && address < start + BigInt(length),
  );
  if (found === undefined)
    throw new MapramError('IO', 'looking for a mapping of this process: it is not shown');
  const { device, inode } = found;
  return { device, inode };
}

export function isMappingOf({ device, inode }: ProcessMapping, file: MappedFile): boolean {
  return device === file.device && inode === file.inode;
}

/** @throws MapramError `IO` when the process is gone or belongs to somebody else. */
export function readProcessMaps(pid: number): ProcessMapping[] {
  try {
    return parseProcessMaps(readFileSync(`/proc/${pid}/maps`, 'utf8'));
  } catch (cause) {
    throw new MapramError(
      'IO',
      `reading the memory map of process ${pid}: ${errorReason(cause)}; run as the user of that process`,
      { path: `/proc/${pid}/maps`, cause },
    );
  }
}

/**
 * Opens the file behind a mapping of process `pid`, with flags of `fs.constants`. Tried in turn: its path, the path as that process sees it
 * (containers), the descriptors that the process holds, and the kernel's own link to the mapping (root only). A file is only taken when
 * device and inode are those of the mapping, so a path that means another file by now is passed over, and is not opened at all: it may be
 * a device.
 *
 * @throws MapramError `IO` when none of them leads to it.
 */
export function openProcessMapping(pid: number, mapping: ProcessMapping, flags: number): number {
  const reasons: string[] = [];
  for (const { link, certain } of candidates(pid, mapping)) {
    try {
      return openAfterLook(link, flags, (fd) => {
        if (!certain && !isSameFile(fstatSync(fd), mapping)) throw new Error(`${link} is another file`);
      });
    } catch (error) {
      reasons.push(errorReason(error));
    }
  }
  throw new MapramError(
    'IO',
    `opening ${mapping.path} as mapped by process ${pid}: ${reasons.at(-1) ?? 'no way to it was found'}; run as the user of that process, or as root`,
    { path: mapping.path },
  );
}

/** Ways to the file; `certain` ones cannot lead to another. */
function* candidates(pid: number, mapping: ProcessMapping): Generator<{ link: string; certain: boolean }> {
  if (!mapping.deleted) {
    yield { link: mapping.path, certain: false };
    yield { link: `/proc/${pid}/root${mapping.path}`, certain: false };
  }
  for (const descriptor of entriesOf(`/proc/${pid}/fd`)) {
    const link = `/proc/${pid}/fd/${descriptor}`;
    try {
      if (isSameFile(statSync(link), mapping)) yield { link, certain: false };
    } catch {
      // Closed in the meantime.
    }
  }
  const start = `${mapping.start.toString(16)}-`;
  for (const range of entriesOf(`/proc/${pid}/map_files`)) {
    if (range.startsWith(start)) yield { link: `/proc/${pid}/map_files/${range}`, certain: true };
  }
}

/** Names in a directory; none where it may not be read, as with another user's process. */
function entriesOf(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

function isSameFile({ dev, ino }: { dev: number; ino: number }, mapping: ProcessMapping): boolean {
  return ino === mapping.inode && deviceName(dev) === mapping.device;
}

/** A device number as `/proc/PID/maps` prints it; the bits are laid out as glibc's `major` and `minor` read them. */
export function deviceName(device: number): string {
  const number = BigInt(device);
  const major = ((number >> 8n) & 0xfffn) | ((number >> 32n) & ~0xfffn);
  const minor = (number & 0xffn) | ((number >> 12n) & ~0xffn);
  const hex = (value: bigint) => (value & 0xffff_ffffn).toString(16).padStart(2, '0');
  return `${hex(major)}:${hex(minor)}`;
}
