import { MapramError } from '../../errors.js';
import { distrustKey, type TrustedKey, trustedKeys, trustKey } from '../../manifest/trusted-keys.js';
import type { CommandOf, CommandResult } from '../command.js';
import { table } from '../format.js';
import type { TrustReport } from '../results.js';

export const trust: CommandOf<'trust'> = {
  name: 'trust',
  instant: true,
  summary: 'trust the signer of saved VMs: their recorded command lines are then run unasked',
  declare(command) {
    command
      .argument('[key]', 'the public key of a signer, an Ed25519 key in PEM form')
      .option('--list', 'show the keys that are trusted')
      .option('--remove <key>', 'trust a key no more: its file, or the base64 that --list shows')
      .addHelpText(
        'after',
        `
Whoever has the private key decides what your "mapram resume" and "mapram fork" run.

Examples:
  mapram trust backup.pub
  mapram trust --list
  mapram trust --remove backup.pub`,
      );
  },
  async run([key], { list, remove }) {
    const asked = [key, list, remove].filter((given) => given !== undefined);
    if (asked.length !== 1) {
      throw new MapramError('USAGE', 'trusting a signer: give a key, --list or --remove KEY, one of them');
    }
    if (remove !== undefined) {
      const removed = await distrustKey(remove);
      return { fields: { removed, keys: trustedKeys() }, text: `no longer trusted: ${inOneLine(removed)}` };
    }
    if (list === true) return listed(trustedKeys());
    const added = await trustKey(String(key));
    return { fields: { added, keys: trustedKeys() }, text: `trusted from now on: ${inOneLine(added)}` };
  },
};

function inOneLine({ publicKey, name }: TrustedKey): string {
  return `${name}, ${publicKey}`;
}

function listed(keys: readonly TrustedKey[]): CommandResult<TrustReport> {
  const rows = keys.map(({ publicKey, name }) => [publicKey, name]);
  return {
    fields: { keys },
    text: keys.length === 0 ? 'no key is trusted' : table([['public key', 'name'], ...rows], '<<'),
  };
}
