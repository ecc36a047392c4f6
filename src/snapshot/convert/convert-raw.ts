import { mkdirSync, rmdirSync } from 'node:fs';
import path from 'node:path';
import { writeRaw } from '../../analysis/copy-pages.js';
import type { SavedBlock, SavedVm } from '../../analysis/saved-vm.js';
import { errorReason, MapramError } from '../../errors.js';
import { hasErrno } from '../../io/system-error.js';
import type { ConvertedFile, ConvertTarget, ConvertTargetOptions } from './convert-target.js';
import { writeConverted } from './converted-file.js';

/** The contents of RAM blocks as flat files: one block as a file, or all of them in a directory. */
export const convertToRaw: ConvertTarget = {
  name: 'raw',
  summary: 'memory as flat sparse files: OUT is one block with --block, else a directory with all of them',
  async convert(saved, options) {
    const { block: name, output } = options;
    if (name === undefined) return { files: await writeAll(saved, options), notes: [] };
    const block = saved.block(name);
    if (block === undefined) {
      const names = saved.blocks.map(({ idstr }) => idstr).join(', ');
      throw new MapramError(
        'USAGE',
        `converting ${saved.path}: it has no RAM block ${name}; it has ${names}`,
        {
          path: saved.path,
        },
      );
    }
    return { files: [await writeBlock(saved, block, output, options)], notes: [] };
  },
};

async function writeAll(saved: SavedVm, options: ConvertTargetOptions): Promise<ConvertedFile[]> {
  const { output } = options;
  const created = makeDirectory(output);
  const files: ConvertedFile[] = [];
  try {
    for (const [index, block] of saved.blocks.entries()) {
      const file = path.join(output, fileName(saved.blocks, index));
      files.push(await writeBlock(saved, block, file, options));
    }
    return files;
  } catch (error) {
    if (created && files.length === 0) rmdirSync(output);
    throw error;
  }
}

async function writeBlock(
  saved: SavedVm,
  block: SavedBlock,
  file: string,
  options: ConvertTargetOptions,
): Promise<ConvertedFile> {
  const { converted } = await writeConverted(file, options, (fd) => writeRaw(saved, block, fd, options));
  return { ...converted, block: block.idstr };
}

/** A block's name as that of a file: `/rom@etc/acpi/tables` becomes `rom@etc_acpi_tables.raw`. */
function fileName(blocks: readonly SavedBlock[], index: number): string {
  const safe = (idstr: string) => idstr.replace(/^\/+/, '').replace(/[^\w.@:+-]/g, '_') || 'block';
  const names = blocks.map(({ idstr }) => safe(idstr));
  const name = names[index] ?? 'block';
  const number = names.slice(0, index).filter((other) => other === name).length;
  // A dot in front would hide it, or be a directory.
  return `${name.replace(/^\.+/, '_')}${number === 0 ? '' : `.${number + 1}`}.raw`;
}

/** Whether the directory is new. */
function makeDirectory(directory: string): boolean {
  try {
    mkdirSync(directory, { mode: 0o700 });
    return true;
  } catch (error) {
    if (hasErrno(error, 'EEXIST')) return false;
    throw new MapramError('IO', `creating the directory ${directory}: ${errorReason(error)}`, {
      path: directory,
      cause: error,
    });
  }
}
