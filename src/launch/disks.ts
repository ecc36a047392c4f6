/** The disk images that a QEMU command line names. */
import { defined } from '../defined.js';
import type { CommandLineOption } from './command-line.js';
import { OptionList } from './option-list.js';

/** Where a command line names an image. */
export interface DiskArgument {
  /** Index of the option in the command line. */
  option: number;
  /** As the command line has it: absolute, or relative to QEMU's working directory. */
  path: string;
  /** What is named, or undefined where QEMU is to find out itself. */
  format?: string;
  readOnly: boolean;
}

const BARE_DISKS = new Set(['', 'hda', 'hdb', 'hdc', 'hdd', 'fda', 'fdb', 'sd', 'mtdblock', 'pflash']);
/** Block drivers that open a file themselves; all others stand above one of these or on a network. */
const FILE_DRIVERS = new Set(['file', 'host_device', 'host_cdrom']);

/** Every local image, in the order of the options; descriptors (`/dev/fdset/N`) and networks are left out. */
export function diskArguments(options: readonly CommandLineOption[]): DiskArgument[] {
  return options.flatMap((option, index) => {
    const disk = diskOf(option);
    return disk === undefined || !isLocalPath(disk.path) ? [] : [{ option: index, ...disk }];
  });
}

function diskOf({ name, value }: CommandLineOption): Omit<DiskArgument, 'option'> | undefined {
  if (value === undefined) return undefined;
  if (BARE_DISKS.has(name)) return { path: value, readOnly: false };
  if (name === 'cdrom') return { path: value, readOnly: true };
  if (name === 'drive') return driveDisk(OptionList.parse(value));
  if (name === 'blockdev') return blockdevDisk(OptionList.parse(value, 'driver'));
  return undefined;
}

function driveDisk(drive: OptionList): Omit<DiskArgument, 'option'> | undefined {
  const path = drive.get('file') ?? drive.get('file.filename');
  if (path === undefined) return undefined;
  const readOnly =
    isOn(drive.get('readonly')) || isOn(drive.get('read-only')) || drive.get('media') === 'cdrom';
  return described(path, drive.get('format') ?? drive.get('driver'), readOnly);
}

/** A node that opens a file: with the format above it in one option, or alone. */
function blockdevDisk(node: OptionList): Omit<DiskArgument, 'option'> | undefined {
  const driver = node.get('driver');
  if (driver === undefined) return undefined;
  const readOnly = isOn(node.get('read-only'));
  if (FILE_DRIVERS.has(driver)) {
    const path = node.get('filename');
    return path === undefined ? undefined : described(path, undefined, readOnly);
  }
  const path = node.get('file.filename');
  return path === undefined ? undefined : described(path, driver, readOnly);
}

function described(
  path: string,
  format: string | undefined,
  readOnly: boolean,
): Omit<DiskArgument, 'option'> {
  return { path, ...defined({ format }), readOnly };
}

function isOn(value: string | undefined): boolean {
  return value === 'on' || value === 'true' || value === 'yes';
}

function isLocalPath(path: string): boolean {
  return path !== '' && !path.startsWith('/dev/fdset/') && !/^(json|[a-z][a-z0-9+.-]*):/i.test(path);
}
