import { defined } from '../../defined.js';
import { formatSize } from '../../size.js';
import { DEFAULT_CHANNELS } from '../../snapshot/files/channel-numbers.js';
import { type VerifyResult, verify as verifyFile } from '../../snapshot/verify/verify.js';
import { channelsOption, directIoOption, parseOffset } from '../arguments.js';
import type { CommandOf } from '../command.js';
import { formatDuration, plural, properties, table } from '../format.js';

export const verify: CommandOf<'verify'> = {
  name: 'verify',
  summary: 'check a saved VM: structure, checksums of its memory and device state, signature',
  declare(command) {
    command
      .argument('<file>', 'a mapped-ram file of mapram, QEMU or libvirt')
      .addOption(directIoOption())
      .addOption(channelsOption())
      .option('--structure', 'check the structure only, read no pages')
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
      ...(result.ok
        ? {}
        : { failed: `verifying ${result.file}: ${plural(problems.length, 'problem')} found` }),
    };
  },
};

const SIGNATURE = {
  none: 'none',
  invalid: 'not valid',
  valid: 'valid, by the key that the file names',
  trusted: 'valid, by the required key',
} as const;

function describe(result: VerifyResult): string {
  const { file, ok, problems, notes, checkedBytes, totalTimeMs, id, createdAt, signature } = result;
  const rate = totalTimeMs > 0 ? `, ${formatSize(Math.round((checkedBytes / totalTimeMs) * 1000))}/s` : '';
  return [
    properties([
      ['file', `${file}: ${ok ? 'sound' : 'DAMAGED'}`],
      ['checked', `${formatSize(checkedBytes)} in ${formatDuration(totalTimeMs)}${rate}`],
      ...(id === undefined ? [] : [['saved', `${createdAt}, ${id}`] as const]),
      ['signature', SIGNATURE[signature]],
      ...notes.map((note) => ['note', note] as const),
    ]),
    ...(problems.length === 0
      ? []
      : ['', table(problems.map(({ kind, where, message }) => [kind, where, message]))]),
  ].join('\n');
}
