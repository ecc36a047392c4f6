import { formatSize } from '../../size.js';
import { pruneStore } from '../../snapshot/store/manage-store.js';
import { unlockFromEnvironment } from '../../snapshot/store/unlock.js';
import { PLACE_HELP } from '../../store/open-place.js';
import type { PruneResult } from '../../store/prune.js';
import { parseCount } from '../arguments.js';
import type { CommandOf } from '../command.js';
import { plural, properties } from '../format.js';

export const storePrune: CommandOf<'store-prune'> = {
  name: 'store prune',
  summary: 'remove snapshots that are no longer wanted, and free what nothing needs',
  declare(command) {
    command
      .argument('<place>', PLACE_HELP)
      .option('--keep-last <n>', 'keep the newest N of each name', parseCount)
      .option('--keep-hourly <n>', 'keep the newest of each of the last N hours that have one', parseCount)
      .option('--keep-daily <n>', 'the same for days (UTC)', parseCount)
      .option('--keep-weekly <n>', 'the same for weeks, from Monday', parseCount)
      .option('--keep-monthly <n>', 'the same for months', parseCount)
      .option('--keep-yearly <n>', 'the same for years', parseCount)
      .option('--dry-run', 'remove nothing, show what would be removed')
      .addHelpText(
        'after',
        `
Without --keep options no snapshot is removed, only the space of those that were removed before is freed. Pushes may go on
meanwhile: nothing that they need is removed. What a push that was given up has left is freed after 7 days. A registry frees
space by itself, by its own garbage collection.

Examples:
  mapram store prune dir:/srv/snapshots --keep-last 3 --keep-daily 7 --dry-run
  mapram store prune s3://backups/vms --keep-daily 7 --keep-weekly 5 --keep-monthly 12`,
      );
  },
  async run([place], { dryRun, keepLast, keepHourly, keepDaily, keepWeekly, keepMonthly, keepYearly }) {
    const keep = { keepLast, keepHourly, keepDaily, keepWeekly, keepMonthly, keepYearly };
    const unlock = unlockFromEnvironment();
    const result = await pruneStore({ place: String(place), ...keep, dryRun: dryRun === true, unlock });
    return { fields: result, text: describe(result) };
  },
};

function describe(result: PruneResult): string {
  const { dryRun, removed, kept, byPlace, removedPacks, freedBytes, keptBytes } = result;
  const space = byPlace
    ? 'freed by the registry, when it collects garbage'
    : `${formatSize(freedBytes)} in ${plural(removedPacks, 'pack')}; ${formatSize(keptBytes)} are left`;
  return properties([
    ...removed.map((name) => [dryRun ? 'would remove' : 'removed', name] as const),
    ['kept', plural(kept, 'snapshot')],
    [dryRun ? 'would free' : 'freed', space],
  ]);
}
