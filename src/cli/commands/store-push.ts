import { formatSize } from '../../size.js';
import { type PushResult, pushSnapshot } from '../../snapshot/store/push-snapshot.js';
import { unlockFromEnvironment } from '../../snapshot/store/unlock.js';
import { parseAnother } from '../arguments.js';
import type { CommandOf } from '../command.js';
import { formatDuration, properties } from '../format.js';

export const storePush: CommandOf<'store-push'> = {
  name: 'store push',
  summary: 'put a saved VM into a store: what it shares with the snapshot before is not stored again',
  declare(command) {
    command
      .argument('<file>', 'a saved VM; any other file is taken too')
      .argument('<snapshot>', 'PLACE/NAME: it becomes the newest of that name')
      .option(
        '--disk <path>',
        'a disk image that belongs to it, of any format; may be given again',
        parseAnother,
      )
      .option(
        '--parent <snapshot>',
        'NAME or NAME@ID in the same store to compare it with, or none (default: the newest NAME)',
      )
      .addHelpText(
        'after',
        `
A push that was broken off and is begun again does not upload again what is there.

Examples:
  mapram store push vm.mapram dir:/srv/snapshots/web
  mapram store push vm.mapram s3://backups/vms/web --disk root.qcow2`,
      );
  },
  async run([file, to], { disk, parent }, { signal, progress }) {
    const result = await pushSnapshot({
      file: String(file),
      to: String(to),
      disks: disk,
      parent,
      unlock: unlockFromEnvironment(),
      signal,
      onProgress: progress,
    });
    return { fields: result, text: describePush(result) };
  },
};

export function describePush(result: PushResult): string {
  const { address, parent, dataBytes, sharedBytes, unreadBytes, storedBytes, reusedBytes, totalTimeMs } =
    result;
  const rate = totalTimeMs > 0 ? ` (${formatSize(Math.round((dataBytes / totalTimeMs) * 1000))}/s)` : '';
  const unread = unreadBytes === 0 ? '' : `, of it ${formatSize(unreadBytes)} not even read`;
  return properties([
    ['snapshot', address],
    ['compared with', parent ?? 'nothing'],
    ['data', `${formatSize(dataBytes)}, ${formatSize(sharedBytes)} were there already${unread}`],
    [
      'stored',
      `${formatSize(storedBytes)}${reusedBytes === 0 ? '' : `, ${formatSize(reusedBytes)} by an earlier push`}`,
    ],
    ['time', `${formatDuration(totalTimeMs)}${rate}`],
  ]);
}
