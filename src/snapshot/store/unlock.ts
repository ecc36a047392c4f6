/** What opens encrypted stores, from the environment: commands that take any file take a snapshot in such a store too. */

import { readFileSync } from 'node:fs';
import { defined } from '../../defined.js';
import { errorReason, MapramError } from '../../errors.js';
import type { StoreUnlock } from '../../store/store-keys.js';

/** The file with age identities, as `age-keygen` writes it. */
export const IDENTITY_VARIABLE = 'MAPRAM_STORE_IDENTITY';
/** The file whose first line is the passphrase. */
export const PASSPHRASE_VARIABLE = 'MAPRAM_STORE_PASSPHRASE_FILE';

/** @throws MapramError `IO` for a file that cannot be read, `USAGE` for one with nothing in it */
export function unlockFromEnvironment(
  env: Readonly<Record<string, string | undefined>> = process.env,
): StoreUnlock {
  const identityFile = env[IDENTITY_VARIABLE];
  const passphraseFile = env[PASSPHRASE_VARIABLE];
  return {
    ...defined({ identities: identityFile ? readLines(identityFile) : undefined }),
    ...defined({ passphrase: passphraseFile ? readPassphrase(passphraseFile) : undefined }),
  };
}

/** @throws MapramError `IO`, `USAGE` */
export function readPassphrase(file: string): string {
  const [first = ''] = readText(file).split(/\r?\n/);
  if (first === '') throw nothingIn(file, 'a passphrase in its first line');
  return first;
}

/** What is in a file of recipients or identities: one a line, beside comments. */
export function readLines(file: string): string[] {
  const lines = readText(file)
    .split(/\r?\n/)
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'));
  if (lines.length === 0) throw nothingIn(file, 'one key a line');
  return lines;
}

function nothingIn(file: string, wanted: string): MapramError {
  return new MapramError('USAGE', `reading ${file}: there is nothing in it; it should have ${wanted}`, {
    path: file,
  });
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    throw new MapramError('IO', `reading ${file}: ${errorReason(cause)}`, { path: file, cause });
  }
}
