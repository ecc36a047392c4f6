import { writeElf } from '../../analysis/elf-writer.js';
import { MapramError } from '../../errors.js';
import type { ConvertTarget } from './convert-target.js';
import { writeConverted } from './converted-file.js';

/** An ELF core of guest-physical memory, see `writeElf`. */
export const convertToElf: ConvertTarget = {
  name: 'elf',
  summary: 'an ELF core of guest-physical memory for gdb, crash, drgn, volatility',
  async convert(saved, options) {
    if (options.block !== undefined) {
      throw new MapramError(
        'USAGE',
        `converting ${saved.path}: an ELF core holds all of memory; --block is for --to raw`,
        { path: saved.path },
      );
    }
    const { converted, result } = await writeConverted(options.output, options, (fd) =>
      writeElf(saved, fd, options),
    );
    const notes = [
      `${result.cpus} cpu${result.cpus === 1 ? '' : 's'}, ${result.vmcoreinfo ? 'with' : 'without'} VMCOREINFO`,
    ];
    if (result.omitted.length > 0) {
      notes.push(`left out, since their guest addresses are not known: ${result.omitted.join(', ')}`);
    }
    return { files: [converted], notes };
  },
};
