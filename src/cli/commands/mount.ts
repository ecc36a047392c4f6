import { mountSnapshot } from '../../snapshot/lazy/mount-snapshot.js';
import type { CommandOf } from '../command.js';
import { properties } from '../format.js';
import { untilEnded } from './resume.js';

export const mount: CommandOf<'mount'> = {
  name: 'mount',
  summary: 'show a snapshot of a store as files, read-only; only what is read is fetched',
  declare(command) {
    command
      .argument('<snapshot>', 'PLACE/NAME, the newest of that name, or PLACE/NAME@ID')
      .argument('<dir>', 'an existing directory; it shows the files until ^C, or umount')
      .addHelpText(
        'after',
        `
Examples:
  mapram mount s3://backups/vms/web /mnt/web
  mapram mount dir:/srv/snapshots/web@20261129T165713123Z-1a2b3c4d /mnt/web`,
      );
  },
  async run([snapshot, directory], _options, context) {
    await using mounted = await mountSnapshot({
      snapshot: String(snapshot),
      dir: String(directory),
      onWarning: context.warn,
      signal: context.signal,
    });
    const { address, files } = mounted;
    const fields = { address, directory: String(directory), files: [...files] };
    context.ready(
      fields,
      properties([
        ['snapshot', address],
        ...files.map((file): [string, string] => ['file', `${directory}/${file}`]),
      ]),
    );
    await untilEnded(mounted.unmounted, context.signal);
    return { fields, text: '' };
  },
};
