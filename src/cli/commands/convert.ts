import { Option } from 'commander';
import { defined } from '../../defined.js';
import { formatSize } from '../../size.js';
import { convertToElf } from '../../snapshot/convert/convert-elf.js';
import { convertToMappedRam } from '../../snapshot/convert/convert-mapped-ram.js';
import { convertToRaw } from '../../snapshot/convert/convert-raw.js';
import { convertToStream } from '../../snapshot/convert/convert-stream.js';
import type { ConvertedFile, ConvertTarget } from '../../snapshot/convert/convert-target.js';
import { openSaved } from '../../snapshot/store/open-saved.js';
import { visibleLine } from '../../visible.js';
import { parseOffset } from '../arguments.js';
import type { CommandOf } from '../command.js';

/** Every form that `--to` takes. */
const TARGETS: readonly ConvertTarget[] = [convertToMappedRam, convertToStream, convertToRaw, convertToElf];

export const convert: CommandOf<'convert'> = {
  name: 'convert',
  summary: 'turns a saved VM into another form',
  declare(command) {
    command
      .argument('<in>', 'a saved VM of any form, or PLACE/NAME in a store')
      .argument('<out>', 'the new file')
      .addOption(
        new Option('--to <form>', 'the form to write, see below')
          .choices(TARGETS.map(({ name }) => name))
          .makeOptionMandatory(),
      )
      .option('--block <name>', 'with --to raw: only this RAM block, into the file OUT')
      .option('--force', 'replace OUT when the new file is complete')
      .option('--offset <bytes>', 'where the stream of IN starts, for a file saved with offset=', parseOffset)
      .addHelpText(
        'after',
        `\nForms:\n${TARGETS.map(({ name, summary }) => `  ${name.padEnd(12)}${summary}`).join('\n')}

Examples:
  mapram convert vm.mapram vm.core --to elf
  mapram convert vm.mapram ram --to raw`,
      );
  },
  async run([input, output], { to, block, force, offset }, { signal, progress, warn }) {
    const target = TARGETS.find(({ name }) => name === to) as ConvertTarget;
    await using saved = await openSaved(String(input), {
      ...defined({ offset }),
      signal,
      onProgress: progress,
    });
    const { files, notes } = await target.convert(saved, {
      output: String(output),
      force: force === true,
      ...(block === undefined ? {} : { block: String(block) }),
      signal,
      onProgress: progress,
    });
    for (const problem of saved.problems) warn(`converting ${saved.path}: ${problem}`);
    return {
      fields: { input: saved.path, output: String(output), to, files, notes },
      text: [...files.map(describeFile), ...notes].map(visibleLine).join('\n'),
    };
  },
};

function describeFile({ file, fileBytes, allocatedBytes, block }: ConvertedFile): string {
  const what = block === undefined ? '' : `${block}: `;
  return `${what}${file}, ${formatSize(fileBytes)}, ${formatSize(allocatedBytes)} on the disk`;
}
