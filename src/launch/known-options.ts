/** What a file alone tells about the command line of its VM, for people who have to write it. */
import type { CommandLineOption } from './command-line.js';
import { isMachineRam, type SnapshotBlock, type SnapshotShape } from './resume-command-line.js';

/** Machine type, memory and processors. */
export function knownOptions({
  machine,
  blocks,
  processors,
  defaultRamId,
}: SnapshotShape): CommandLineOption[] {
  const options: CommandLineOption[] = [{ name: 'machine', value: machine }];
  const main = largest(
    blocks.filter(({ idstr }) => (defaultRamId === undefined ? isMachineRam(idstr) : idstr === defaultRamId)),
  );
  // Blocks of the machine and its devices have a dot or a slash in their names; those of -object are called by their id.
  const objects = blocks.filter((block) => block !== main && !/[./]/.test(block.idstr));
  if (main !== undefined) options.push({ name: 'm', value: mebibytes(main.usedLength) });
  else {
    options.push(
      ...objects.map(({ idstr, usedLength }) => ({
        name: 'object',
        value: `memory-backend-ram,id=${idstr},size=${mebibytes(usedLength)}`,
      })),
    );
  }
  if (processors !== undefined) options.push({ name: 'smp', value: String(processors) });
  return options;
}

const mebibytes = (bytes: number): string => `${bytes / 2 ** 20}M`;

function largest(blocks: readonly SnapshotBlock[]): SnapshotBlock | undefined {
  return blocks.toSorted((one, other) => other.usedLength - one.usedLength)[0];
}
