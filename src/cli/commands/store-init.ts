import { defined } from '../../defined.js';
import { initStore } from '../../snapshot/store/manage-store.js';
import { readLines, readPassphrase } from '../../snapshot/store/unlock.js';
import { PLACE_HELP } from '../../store/open-place.js';
import type { StoreEncryption } from '../../store/store-keys.js';
import { parseAnother } from '../arguments.js';
import type { CommandOf, Options } from '../command.js';
import { properties } from '../format.js';

export const storeInit: CommandOf<'store-init'> = {
  name: 'store init',
  summary: 'make a store in a directory, a bucket or a repository',
  declare(command) {
    command
      .argument('<place>', PLACE_HELP)
      .option(
        '--encrypt-to <recipient>',
        'encrypt it for this age recipient; may be given again',
        parseAnother,
      )
      .option('--encrypt-to-file <path>', 'encrypt it for the age recipients in this file')
      .option(
        '--encrypt-passphrase-file <path>',
        'encrypt it with the passphrase in the first line of this file',
      )
      .addHelpText(
        'after',
        `
Whether a store is encrypted, and for whom, is settled when it is made.

Examples:
  mapram store init dir:/srv/snapshots
  mapram store init s3://backups/vms --encrypt-to age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p
  mapram store init oci://registry.example.com/vms --encrypt-passphrase-file pass`,
      );
  },
  async run([place], options) {
    const result = await initStore({ place: String(place), encryption: encryptionOf(options) });
    const secret = 'yes; without the key, or the passphrase, nothing in it can be read';
    return {
      fields: result,
      text: properties([
        ['store', result.place],
        ['encrypted', result.encrypted ? secret : 'no'],
      ]),
    };
  },
};

function encryptionOf({
  encryptTo = [],
  encryptToFile,
  encryptPassphraseFile,
}: Options): StoreEncryption | undefined {
  const recipients = [...encryptTo, ...(encryptToFile === undefined ? [] : readLines(encryptToFile))];
  if (recipients.length === 0 && encryptPassphraseFile === undefined) return undefined;
  return {
    recipients,
    ...defined({
      passphrase: encryptPassphraseFile === undefined ? undefined : readPassphrase(encryptPassphraseFile),
    }),
  };
}
