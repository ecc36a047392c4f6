/**
 * The signers whose files this user trusts: a recorded command line that one of them has signed runs unasked.
 *
 *     trusted-keys, a key a line:   ed25519 <32 bytes, base64> <name, to the end of the line>
 */
import path from 'node:path';
import { assertArguments, path as filePath, text } from '../checked-options.js';
import { MapramError } from '../errors.js';
import { configurationFolder, readConfiguration, writeConfiguration } from '../launch/user-configuration.js';
import { rawPublicKey, readPublicKey } from './signature.js';

export interface TrustedKey {
  /** The raw 32 bytes, base64, as manifests have it. */
  publicKey: string;
  /** Of the file that it was read from. */
  name: string;
}

const FILE = 'trusted-keys';
const LINE = /^ed25519 ([A-Za-z0-9+/]{43}=) (.*)$/;

/** @throws MapramError `IO` when others could have written the list, `FORMAT` when a line is none of mapram's */
export function trustedKeys(): TrustedKey[] {
  const text = readConfiguration(FILE)?.toString('utf8') ?? '';
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line, index) => {
      const [, publicKey, name] = LINE.exec(line) ?? [];
      if (publicKey !== undefined && name !== undefined) return { publicKey, name };
      const file = path.join(configurationFolder(), FILE);
      throw new MapramError('FORMAT', `reading ${file}: line ${index + 1} is not a key; remove it`, {
        path: file,
      });
    });
}

/** Whether a signer is trusted; not where that cannot be found out. */
export function isTrustedKey(publicKey: string): boolean {
  try {
    return trustedKeys().some((key) => key.publicKey === publicKey);
  } catch {
    return false;
  }
}

/**
 * Adds a signer.
 *
 * @param file the public key, an Ed25519 key in PEM form
 * @throws MapramError `USAGE` for a key that cannot be used, `IO`
 */
export async function trustKey(file: string): Promise<TrustedKey> {
  assertArguments('trustKey', { file: filePath }, { file });
  const key: TrustedKey = {
    publicKey: rawPublicKey(readPublicKey(file)).toString('base64'),
    // A name is for people: a line of text, whatever the file is called.
    name: path.basename(file).replaceAll(/\p{Cc}/gu, '?'),
  };
  const others = trustedKeys().filter(({ publicKey }) => publicKey !== key.publicKey);
  await writeKeys([...others, key]);
  return key;
}

/**
 * Removes a signer.
 *
 * @param which the public key: a file in PEM form, or the base64 of the list
 * @throws MapramError `USAGE` for one that is not in the list, `IO`
 */
export async function distrustKey(which: string): Promise<TrustedKey> {
  assertArguments('distrustKey', { which: text }, { which });
  const keys = trustedKeys();
  const publicKey = keys.some((key) => key.publicKey === which)
    ? which
    : rawPublicKey(readPublicKey(which)).toString('base64');
  const found = keys.find((key) => key.publicKey === publicKey);
  if (found === undefined) {
    throw new MapramError(
      'USAGE',
      `removing the key ${which}: it is not trusted; "mapram trust --list" shows those that are`,
    );
  }
  await writeKeys(keys.filter((key) => key !== found));
  return found;
}

async function writeKeys(keys: readonly TrustedKey[]): Promise<void> {
  const text = keys.map(({ publicKey, name }) => `ed25519 ${publicKey} ${name}\n`).join('');
  await writeConfiguration(FILE, Buffer.from(text), 'replace');
}
