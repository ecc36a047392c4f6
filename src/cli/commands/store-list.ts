import { defined } from '../../defined.js';
import { formatSize } from '../../size.js';
import { type ListedSnapshot, listSnapshots } from '../../snapshot/store/list-snapshots.js';
import { unlockFromEnvironment } from '../../snapshot/store/unlock.js';
import { PLACE_HELP } from '../../store/open-place.js';
import type { CommandOf } from '../command.js';
import { table } from '../format.js';

export const storeList: CommandOf<'store-list'> = {
  name: 'store list',
  summary: 'what is in a store',
  declare(command) {
    command.argument('<place>', PLACE_HELP).addHelpText(
      'after',
      `
Of an encrypted store whose key is not there, names and sizes can be read.

Examples:
  mapram store list dir:/srv/snapshots
  mapram store list s3://backups/vms --json | jq -r '.snapshots[].id'`,
    );
  },
  async run([place]) {
    const { snapshots, problems, ...rest } = await listSnapshots({
      place: String(place),
      unlock: unlockFromEnvironment(),
    });
    const text = snapshots.length === 0 ? 'No snapshots.' : table([TITLES, ...snapshots.map(row)], '<<>>><');
    return {
      fields: { ...rest, snapshots, problems },
      text,
      ...defined({ failed: problems.length === 0 ? undefined : problems.join('; ') }),
    };
  },
};

const TITLES = ['snapshot', 'pushed', 'size', 'data', 'packs', 'machine'];

function row({ name, id, pushedAt, fileBytes, dataBytes, packBytes, machine }: ListedSnapshot): string[] {
  return [
    `${name}@${id}`,
    pushedAt.replace(/\.\d+Z$/, 'Z'),
    formatSize(fileBytes),
    formatSize(dataBytes),
    formatSize(packBytes),
    machine ?? '',
  ];
}
