/** Operations on files alone: compare and convert. */
import { compareSavedVms } from '../../analysis/compare.js';
import { equalChunksOf } from '../../analysis/equal-chunks.js';
import { openSavedVm } from '../../analysis/open-saved-vm.js';
import { defined } from '../../defined.js';
import { convertToElf } from '../../snapshot/convert/convert-elf.js';
import { convertToMappedRam } from '../../snapshot/convert/convert-mapped-ram.js';
import { convertToRaw } from '../../snapshot/convert/convert-raw.js';
import { convertToStream } from '../../snapshot/convert/convert-stream.js';
import type { ConvertTarget } from '../../snapshot/convert/convert-target.js';
import type { Work } from '../operations.js';
import type { RequestOf } from '../requests.js';
import { summarize } from './summaries.js';
import { ofDirectory, type Things } from './things.js';

export function diffWork({ kind, file, other }: RequestOf<'diff'>, { saved, directories }: Things): Work {
  saved.entry(file);
  saved.entry(other);
  return {
    kind,
    title: `Compare ${file} with ${other}`,
    file,
    other,
    ...ofDirectory(directories, file),
    disk: 'read',
    async run({ signal, onProgress, onWarning }) {
      const options = { signal, onProgress };
      await using before = await openSavedVm(file, options);
      await using after = await openSavedVm(other, options);
      for (const { path, problems } of [before, after]) {
        for (const problem of problems) onWarning(`${path}: ${problem}`);
      }
      const equalChunks = await equalChunksOf(before, after);
      return {
        result: summarize(await compareSavedVms(before, after, { ...defined({ equalChunks }), ...options })),
      };
    },
  };
}

const TARGETS: Readonly<Record<RequestOf<'convert'>['to'], ConvertTarget>> = {
  'mapped-ram': convertToMappedRam,
  stream: convertToStream,
  raw: convertToRaw,
  elf: convertToElf,
};

export function convertWork(request: RequestOf<'convert'>, { saved, directories }: Things): Work {
  const { kind, file, to, directory, name, force } = request;
  saved.entry(file);
  const output = directories.file(directory, name);
  return {
    kind,
    title: `Convert ${file} to ${output}`,
    file,
    other: output,
    directory,
    disk: 'write',
    async run({ signal, onProgress, onWarning }) {
      await using opened = await openSavedVm(file, { signal, onProgress });
      for (const problem of opened.problems) onWarning(`${file}: ${problem}`);
      return { result: await TARGETS[to].convert(opened, { output, force, signal, onProgress }) };
    },
  };
}
