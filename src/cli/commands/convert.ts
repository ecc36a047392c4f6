import { Option } from 'commander';
import { formatSize } from '../../size.js';
import {
  CONVERT_FORMS,
  type ConvertForm,
  convert as convertSaved,
  describeForms,
} from '../../snapshot/convert/convert.js';
import type { ConvertedFile } from '../../snapshot/convert/convert-target.js';
import { visibleLine } from '../../visible.js';
import { parseOffset } from '../arguments.js';
import type { CommandOf } from '../command.js';

export const convert: CommandOf<'convert'> = {
  name: 'convert',
  summary: 'turns a saved VM into another form',
  declare(command) {
    command
      .argument('<in>', 'a saved VM of any form, or PLACE/NAME in a store')
      .argument('<out>', 'the new file')
      .addOption(
        new Option('--to <form>', 'the form to write, see below')
          .choices(CONVERT_FORMS)
          .makeOptionMandatory(),
      )
      .option('--block <name>', 'with --to raw: only this RAM block, into the file OUT')
      .option('--force', 'replace OUT when the new file is complete')
      .option('--offset <bytes>', 'where the stream of IN starts, for a file saved with offset=', parseOffset)
      .addHelpText(
        'after',
        `\nForms:\n${describeForms()
          .map(({ name, summary }) => `  ${name.padEnd(12)}${summary}`)
          .join('\n')}

Examples:
  mapram convert vm.mapram vm.core --to elf
  mapram convert vm.mapram ram --to raw`,
      );
  },
  async run([input, output], { to, block, force, offset }, { signal, progress, warn }) {
    const { files, notes } = await convertSaved({
      file: String(input),
      output: String(output),
      to: to as ConvertForm,
      block: block === undefined ? undefined : String(block),
      force: force === true,
      offset,
      signal,
      onProgress: progress,
      onWarning: warn,
    });
    return {
      fields: { input: String(input), output: String(output), to, files, notes },
      text: [...files.map(describeFile), ...notes].map(visibleLine).join('\n'),
    };
  },
};

function describeFile({ file, fileBytes, allocatedBytes, block }: ConvertedFile): string {
  const what = block === undefined ? '' : `${block}: `;
  return `${what}${file}, ${formatSize(fileBytes)}, ${formatSize(allocatedBytes)} on the disk`;
}
