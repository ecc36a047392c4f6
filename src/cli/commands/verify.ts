import { Option } from 'commander';
import { defined } from '../../defined.js';
import { formatSize } from '../../size.js';
import { DEFAULT_CHANNELS } from '../../snapshot/files/channel-numbers.js';
import { problemsInWords, type VerifyResult, verify as verifyFile } from '../../snapshot/verify/verify.js';
import { channelsOption, directIoOption, parseOffset } from '../arguments.js';
import type { CommandOf } from '../command.js';
import { formatDuration, properties, table } from '../format.js';

export const verify: CommandOf<'verify'> = {
  name: 'verify',
  summary: 'check a saved VM: structure, checksums of its memory and device state, signature',
  declare(command) {
    command
      .argument('<file>', 'a mapped-ram file of mapram, QEMU or libvirt')
      .addOption(directIoOption())
      .addOption(channelsOption())
      .addOption(
        new Option('--structure', 'check the structure only, read no pages').conflicts('requireSignature'),
      )
      .option('--require-signature <key>', 'it must be signed; the public key, an Ed25519 key in PEM form')
      .option('--offset <bytes>', 'where the stream starts, for a file saved with offset=', parseOffset)
      .addHelpText(
        'after',
        `
Exit code 1 when something is wrong. Files of other programs have no checksums: only their structure is checked.

Examples:
  mapram verify vm.mapram
  mapram verify --require-signature backup.pub vm.mapram`,
      );
  },
  async run([file], { directIo, channels, structure, requireSignature, offset }, { signal, progress, warn }) {
    const result = await verifyFile({
      file: String(file),
      contents: structure !== true,
      directIo,
      channels: channels ?? DEFAULT_CHANNELS,
      ...defined({ requireSignature, offset }),
      signal,
      onProgress: progress,
      onWarning: warn,
    });
    const { problems } = result;
    return {
      fields: result,
      text: describe(result),
      ...(result.ok ? {} : { failed: `verifying ${result.file}: ${problemsInWords(problems)}` }),
    };
  },
};

const SIGNATURE = {
  none: 'not signed',
  invalid: 'not valid',
  valid: 'valid, by the key that the file names',
  trusted: 'valid, by the required key',
} as const;

/** What was looked at, and what was found: `sound` without more is said of nothing that was not read. */
function verdictOf({ ok, problems, memory }: VerifyResult): string {
  if (!ok) return problems.every(({ kind }) => kind === 'signature') ? 'NOT ACCEPTED' : 'DAMAGED';
  return {
    checked: 'sound: structure, memory and device state are as they were saved',
    'not-asked': 'structure sound; its memory was not read',
    'no-checksums': 'structure sound; its memory cannot be checked',
    'not-reached': 'structure sound; its memory was not checked',
  }[memory];
}

function describe(result: VerifyResult): string {
  const { file, problems, notes, memory, checkedBytes, totalTimeMs, id, createdAt, signature } = result;
  const rate = totalTimeMs > 0 ? `, ${formatSize(Math.round((checkedBytes / totalTimeMs) * 1000))}/s` : '';
  const time = formatDuration(totalTimeMs);
  return [
    properties([
      ['file', `${file}: ${verdictOf(result)}`],
      memory === 'checked' ? ['checked', `${formatSize(checkedBytes)} in ${time}${rate}`] : ['time', time],
      ...(id === undefined ? [] : [['saved', `${createdAt}, ${id}`] as const]),
      ['signature', SIGNATURE[signature]],
      ...notes.map((note) => ['note', note] as const),
    ]),
    ...(problems.length === 0
      ? []
      : ['', table(problems.map(({ kind, where, message }) => [kind, where, message]))]),
  ].join('\n');
}
