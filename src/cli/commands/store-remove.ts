import { removeStored } from '../../snapshot/store/manage-store.js';
import type { CommandOf } from '../command.js';

export const storeRemove: CommandOf<'store-remove'> = {
  name: 'store remove',
  summary: 'remove one snapshot from a store; prune frees its space',
  declare(command) {
    command.argument('<snapshot>', 'PLACE/NAME@ID').addHelpText(
      'after',
      `
Examples:
  mapram store remove dir:/srv/snapshots/web@20261129T165713123Z-1a2b3c4d`,
    );
  },
  async run([snapshot]) {
    const result = await removeStored({ snapshot: String(snapshot) });
    return { fields: result, text: `removed ${result.removed}` };
  },
};
