import { InvalidArgumentError } from 'commander';
import { formatSize } from '../../size.js';
import { verifyStored } from '../../snapshot/store/manage-store.js';
import { unlockFromEnvironment } from '../../snapshot/store/unlock.js';
import type { CommandOf } from '../command.js';
import { formatDuration, plural, properties } from '../format.js';

export const storeVerify: CommandOf<'store-verify'> = {
  name: 'store verify',
  summary: 'check that a snapshot is whole: its index, its packs, and every chunk or some of them',
  declare(command) {
    command
      .argument('<snapshot>', 'PLACE/NAME or PLACE/NAME@ID')
      .option('--sample <percent>', 'read only so many of its chunks, chosen at random: 5%', parseShare)
      .addHelpText(
        'after',
        `
Exit code 1 when something is wrong. Packs are looked for, and the index is read, in any case.

Examples:
  mapram store verify dir:/srv/snapshots/web
  mapram store verify s3://backups/vms/web --sample 5%`,
      );
  },
  async run([snapshot], { sample }, { signal, progress }) {
    const unlock = unlockFromEnvironment();
    const options = { snapshot: String(snapshot), sample, unlock, signal, onProgress: progress };
    const result = await verifyStored(options);
    const { address: called, totalTimeMs } = result;
    return {
      fields: result,
      text: properties([
        ['snapshot', `${called}: ${result.ok ? 'sound' : 'DAMAGED'}`],
        [
          'checked',
          `${formatSize(result.checkedBytes)} in ${formatDuration(totalTimeMs)}, ${plural(result.packs, 'pack')}`,
        ],
        ...result.problems.map((problem) => ['problem', problem] as const),
      ]),
      ...(result.ok
        ? {}
        : { failed: `verifying ${called}: ${plural(result.problems.length, 'problem')} found` }),
    };
  },
};

/** `5%` or `5`: a share from 0 to 1. */
function parseShare(text: string): number {
  const percent = /^\d{1,3}(?:\.\d+)?%?$/.test(text) ? Number(text.replace('%', '')) : 0;
  if (!(percent > 0 && percent <= 100)) throw new InvalidArgumentError('Expected a share such as 5%.');
  return percent / 100;
}
