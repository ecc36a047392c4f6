/** What a file alone tells about the command line of its VM, for people who have to write it. */
import type { CommandLineOption } from './command-line.js';
import type { SnapshotBlock, SnapshotShape } from './resume-command-line.js';

/** Machine type, memory and processors. */
export function knownOptions({ machine, blocks, processors }: SnapshotShape): CommandLineOption[] {
  const options: CommandLineOption[] = [{ name: 'machine', value: machine }];
  // The machine's own blocks are called pc.ram, mach-virt.ram, vga.vram, pc.bios; those of -object by their id.
  const objects = blocks.filter(({ idstr }) => !/[./]|ram/.test(idstr));
  if (objects.length > 0) {
    options.push(
      ...objects.map(({ idstr, usedLength }) => ({
        name: 'object',
        value: `memory-backend-ram,id=${idstr},size=${mebibytes(usedLength)}`,
      })),
    );
  } else {
    const main = blocks.reduce<SnapshotBlock | undefined>(
      (largest, block) => (largest && largest.usedLength >= block.usedLength ? largest : block),
      undefined,
    );
    if (main !== undefined) options.push({ name: 'm', value: mebibytes(main.usedLength) });
  }
  if (processors !== undefined) options.push({ name: 'smp', value: String(processors) });
  return options;
}

const mebibytes = (bytes: number): string => `${bytes / 2 ** 20}M`;
