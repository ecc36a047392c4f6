import { readFileSync } from 'node:fs';
import { Option } from 'commander';
import { defined } from '../../defined.js';
import { errorReason, MapramError } from '../../errors.js';
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
      .option('--domain <name>', 'with --to libvirt: the domain that was saved, whose XML virsh is asked for')
      .option('--xml <file>', 'with --to libvirt: a file with the XML of the domain')
      .option('--force', 'replace OUT when the new file is complete')
      .option('--offset <bytes>', 'where the stream of IN starts, for a file saved with offset=', parseOffset)
      .addHelpText(
        'after',
        `\nForms:\n${describeForms()
          .map(({ name, summary }) => `  ${name.padEnd(12)}${summary}`)
          .join('\n')}

Examples:
  mapram convert vm.mapram vm.core --to elf
  mapram convert vm.mapram ram --to raw
  mapram convert web.mapram web.save --to libvirt --domain web`,
      );
  },
  async run([input, output], { to, block, domain, xml, force, offset }, { signal, progress, warn }) {
    const { files, notes } = await convertSaved({
      file: String(input),
      output: String(output),
      to: to as ConvertForm,
      block: block === undefined ? undefined : String(block),
      ...defined({ domain, domainXml: xml && readXml(xml) }),
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

function readXml(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    throw new MapramError('IO', `reading ${file}: ${errorReason(cause)}`, { path: file, cause });
  }
}

function describeFile({ file, fileBytes, allocatedBytes, block }: ConvertedFile): string {
  const what = block === undefined ? '' : `${block}: `;
  return `${what}${file}, ${formatSize(fileBytes)}, ${formatSize(allocatedBytes)} on the disk`;
}
