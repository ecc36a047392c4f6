import { defined } from '../../defined.js';
import { formatSize } from '../../size.js';
import { removeSnapshot } from '../../snapshot/lifecycle/remove-snapshot.js';
import { parseOffset } from '../arguments.js';
import type { CommandOf } from '../command.js';
import { plural } from '../format.js';

export const remove: CommandOf<'remove'> = {
  name: 'remove',
  summary: 'remove saved VMs with what belongs to them, unless a VM runs from them',
  declare(command) {
    command
      .argument('<file...>', 'saved VMs, or folders of clones that have ended')
      .option('--offset <bytes>', 'where the stream starts, for a file saved with --offset', parseOffset)
      .addHelpText(
        'after',
        `
With a file go its prefetch record and what a save to it that died has left. Files that are no saved VMs are not removed.

Examples:
  mapram remove old.mapram
  mapram remove /run/clones`,
      );
  },
  async run([files], { offset }, { signal }) {
    const removed: string[] = [];
    let freedBytes = 0;
    for (const file of files as string[]) {
      const one = await removeSnapshot({ file, signal, ...defined({ offset }) });
      removed.push(...one.removed);
      freedBytes += one.freedBytes;
    }
    const text = [...removed, `${plural(removed.length, 'item')} removed, ${formatSize(freedBytes)} freed`];
    return { fields: { removed, freedBytes }, text: text.join('\n') };
  },
};
