/** Copies of disks that cost nothing until they are written to: qcow2 images with the disk as backing file. */

import { execFile } from 'node:child_process';
import { constants, copyFile as copy } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { defined } from '../defined.js';
import { errorReason, MapramError } from '../errors.js';
import type { CommandLineOption } from './command-line.js';
import { diskArguments } from './disks.js';
import { OptionList } from './option-list.js';

const run = promisify(execFile);

/** A disk that each clone gets a copy of. */
export interface ClonedDisk {
  /** Absolute path of the image. */
  path: string;
  /** Where the command line names it. */
  option: number;
  format?: string;
}

/** The disks that the command line lets QEMU write to. None with -snapshot, which makes copies of its own. */
export function writableDisks(options: readonly CommandLineOption[], workingDirectory: string): ClonedDisk[] {
  if (options.some(({ name }) => name === 'snapshot')) return [];
  return diskArguments(options)
    .filter(({ readOnly }) => !readOnly)
    .map(({ option, path: name, format }) => {
      const found = format ?? formatAbove(options, option);
      return {
        path: path.resolve(workingDirectory, name),
        option,
        ...defined({ format: found }),
      };
    });
}

/**
 * Makes the overlay `file` of `disk`.
 *
 * @throws MapramError `VM` with what qemu-img said, such as that another VM is writing to the disk
 */
export async function createOverlay(disk: ClonedDisk, file: string): Promise<void> {
  const format = disk.format ?? (await detectFormat(disk.path));
  await qemuImg(disk.path, ['create', '-q', '-f', 'qcow2', '-b', disk.path, '-F', format, file]);
}

/**
 * Writes what the guest sees of a disk into the new file `file`, also while a QEMU has the disk open.
 *
 * @throws MapramError as `createOverlay`
 */
export async function rawCopy(disk: Pick<ClonedDisk, 'path' | 'format'>, file: string): Promise<void> {
  const format = disk.format === undefined ? [] : ['-f', disk.format];
  await qemuImg(disk.path, ['convert', '-q', '-U', ...format, '-O', 'raw', disk.path, file]);
}

/** A copy that shares its blocks with the original where the file system can. */
export async function copyFile(from: string, to: string): Promise<void> {
  await copy(from, to, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE);
}

/** The options with `overlays[i]`, a qcow2 image, in place of `disks[i]`. */
export function replaceDisks(
  options: readonly CommandLineOption[],
  disks: readonly ClonedDisk[],
  overlays: readonly string[],
): CommandLineOption[] {
  const changed = options.map((option) => ({ ...option }));
  for (const [index, disk] of disks.entries()) {
    const option = changed[disk.option] as CommandLineOption;
    const overlay = overlays[index] as string;
    if (option.name === 'drive') replaceDrive(option, overlay);
    else if (option.name === 'blockdev') replaceBlockdev(changed, option, overlay);
    else option.value = overlay;
  }
  return changed;
}

function replaceDrive(option: CommandLineOption, overlay: string): void {
  const drive = OptionList.parse(option.value ?? '');
  drive.set(drive.has('file') ? 'file' : 'file.filename', overlay);
  if (drive.has('file.driver')) drive.set('file.driver', 'file');
  option.value = drive.set(drive.has('driver') ? 'driver' : 'format', 'qcow2').toString();
}

function replaceBlockdev(options: CommandLineOption[], option: CommandLineOption, overlay: string): void {
  const node = OptionList.parse(option.value ?? '', 'driver');
  if (!node.has('filename')) {
    node.set('driver', 'qcow2').set('file.filename', overlay);
    if (node.has('file.driver')) node.set('file.driver', 'file');
    option.value = node.toString();
    return;
  }
  const name = node.get('node-name') ?? '';
  const above = formatNodeAbove(options, name);
  if (above === undefined) {
    // A raw image that is used without a format node: the overlay takes its name and stands above a file of its own.
    option.value = OptionList.of('qcow2', {
      'node-name': name,
      'file.driver': 'file',
      'file.filename': overlay,
    }).toString();
    return;
  }
  option.value = node.set('driver', 'file').set('filename', overlay).toString();
  const format = OptionList.parse(above.value ?? '', 'driver').set('driver', 'qcow2');
  // Where a raw image begins in its file; the overlay begins at its start.
  above.value = format.delete('offset').delete('size').toString();
}

/** The format node that stands on the file node called `name`. */
function formatNodeAbove(options: readonly CommandLineOption[], name: string): CommandLineOption | undefined {
  return options.find(
    (option) =>
      option.name === 'blockdev' && OptionList.parse(option.value ?? '', 'driver').get('file') === name,
  );
}

function formatAbove(options: readonly CommandLineOption[], index: number): string | undefined {
  const { name, value = '' } = options[index] as CommandLineOption;
  if (name !== 'blockdev') return undefined;
  const above = formatNodeAbove(options, OptionList.parse(value, 'driver').get('node-name') ?? '');
  return above === undefined ? 'raw' : OptionList.parse(above.value ?? '', 'driver').get('driver');
}

async function detectFormat(file: string): Promise<string> {
  const text = await qemuImg(file, ['info', '--output=json', file]);
  return (JSON.parse(text) as { format: string }).format;
}

async function qemuImg(disk: string, args: string[]): Promise<string> {
  try {
    const { stdout } = await run('qemu-img', args);
    return stdout;
  } catch (error) {
    const { stderr, code } = error as { stderr?: string; code?: unknown };
    const reason =
      code === 'ENOENT'
        ? 'qemu-img is not installed'
        : stderr?.trim().replaceAll(/\s*\n\s*/g, '; ') || errorReason(error);
    throw new MapramError('VM', `making a copy-on-write copy of the disk ${disk}: ${reason}`, {
      path: disk,
      cause: error,
    });
  }
}
