import { formatSize } from '../../size.js';
import { pullSnapshot } from '../../snapshot/store/pull-snapshot.js';
import { unlockFromEnvironment } from '../../snapshot/store/unlock.js';
import type { CommandOf } from '../command.js';
import { formatDuration, properties } from '../format.js';

export const storePull: CommandOf<'store-pull'> = {
  name: 'store pull',
  summary: 'bring a saved VM out of a store, every byte of it checked',
  declare(command) {
    command
      .argument('<snapshot>', 'PLACE/NAME, the newest of that name, or PLACE/NAME@ID')
      .argument('<file>', 'the file to write; it appears when it is complete and on disk')
      .option('--disks <dir>', 'write the disk images of the snapshot into this folder')
      .option('--force', 'replace existing files, once the new ones are complete')
      .addHelpText(
        'after',
        `
Examples:
  mapram store pull dir:/srv/snapshots/web vm.mapram
  mapram store pull s3://backups/vms/web@20261129T165713123Z-1a2b3c4d vm.mapram --disks disks`,
      );
  },
  async run([from, file], { disks, force }, { signal, progress }) {
    const result = await pullSnapshot({
      from: String(from),
      file: String(file),
      disks,
      force: force === true,
      unlock: unlockFromEnvironment(),
      signal,
      onProgress: progress,
    });
    const { address, files, fetchedBytes, totalTimeMs } = result;
    return {
      fields: result,
      text: properties([
        ['snapshot', address],
        ...files.map((one) => ['file', `${one.file}, ${formatSize(one.allocatedBytes)} on disk`] as const),
        ['fetched', `${formatSize(fetchedBytes)} in ${formatDuration(totalTimeMs)}`],
      ]),
    };
  },
};
