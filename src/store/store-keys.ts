/**
 * The keys of an encrypted store. One random secret, wrapped with age for recipients or a passphrase, stands in `store.json`; what is
 * used is derived from it, and from the identity of the store, so that nothing of one store opens in another.
 */
import { createHmac, hkdfSync, randomBytes, timingSafeEqual } from 'node:crypto';
import { errorReason, MapramError } from '../errors.js';

/** Subkeys of 32 bytes. Plain bytes, so that threads can be given them. */
export interface StoreKeys {
  /** Names of chunks and nodes. */
  readonly names: Uint8Array;
  /** Keys of frames are made with it. */
  readonly frames: Uint8Array;
  readonly nonces: Uint8Array;
  /** Authenticates roots. */
  readonly roots: Uint8Array;
}

/** For whom a new store is encrypted. */
export interface StoreEncryption {
  /** age recipients: `age1…`. */
  readonly recipients?: readonly string[] | undefined;
  readonly passphrase?: string | undefined;
}

/** What opens an encrypted store. */
export interface StoreUnlock {
  /** age identities: `AGE-SECRET-KEY-1…`. */
  readonly identities?: readonly string[] | undefined;
  readonly passphrase?: string | undefined;
}

/** How an encrypted store describes its key. */
export interface WrappedKey {
  readonly cipher: 'aes-256-gcm';
  /** The secret as an age file, base64. */
  readonly wrapped: string;
  /** Made from the secret and the identity of the store: tells a wrong key, and a key of another store. Hexadecimal. */
  readonly check: string;
}

const SECRET_BYTES = 32;
/** An age file for a few hundred recipients. */
export const MAXIMUM_WRAPPED = 256 << 10;

/** Makes a new secret. @throws MapramError `USAGE` for a recipient that is none */
export async function createKeys(
  store: string,
  encryption: StoreEncryption,
): Promise<{ keys: StoreKeys; wrapped: WrappedKey }> {
  const secret = randomBytes(SECRET_BYTES);
  return { keys: deriveKeys(secret, store), wrapped: await wrapSecret(secret, store, encryption) };
}

async function wrapSecret(
  secret: Uint8Array,
  store: string,
  encryption: StoreEncryption,
): Promise<WrappedKey> {
  const { recipients = [], passphrase } = encryption;
  if ((passphrase === undefined) === (recipients.length === 0)) {
    throw new MapramError('USAGE', 'encrypting a store: give recipients, or a passphrase, and not both');
  }
  const { Encrypter } = await import('age-encryption');
  const encrypter = new Encrypter();
  try {
    for (const recipient of recipients) encrypter.addRecipient(recipient);
    if (passphrase !== undefined) encrypter.setPassphrase(passphrase);
    const wrapped = Buffer.from(await encrypter.encrypt(secret));
    return { cipher: 'aes-256-gcm', wrapped: wrapped.toString('base64'), check: keyCheck(secret, store) };
  } catch (cause) {
    throw new MapramError('USAGE', `encrypting a store: ${errorReason(cause)}`, { cause });
  }
}

/**
 * @param where the store, for errors
 * @throws MapramError `KEY` when there is no key, or a wrong one
 */
export async function unlockKeys(
  where: string,
  store: string,
  { wrapped, check }: WrappedKey,
  { identities = [], passphrase }: StoreUnlock,
): Promise<StoreKeys> {
  if (identities.length === 0 && passphrase === undefined) throw locked(where);
  const secret = await unwrapSecret(where, wrapped, identities, passphrase);
  const expected = Buffer.from(keyCheck(secret, store), 'hex');
  const given = Buffer.from(check, 'hex');
  if (
    secret.length !== SECRET_BYTES ||
    given.length !== expected.length ||
    !timingSafeEqual(given, expected)
  ) {
    throw new MapramError(
      'KEY',
      `opening ${where}: the key in its store.json is not that of this store; the file was changed or comes from another store`,
      { path: where },
    );
  }
  return deriveKeys(secret, store);
}

async function unwrapSecret(
  where: string,
  wrapped: string,
  identities: readonly string[],
  passphrase: string | undefined,
): Promise<Uint8Array> {
  const { Decrypter } = await import('age-encryption');
  const decrypter = new Decrypter();
  try {
    for (const identity of identities) decrypter.addIdentity(identity);
    if (passphrase !== undefined) decrypter.addPassphrase(passphrase);
  } catch (cause) {
    throw new MapramError('KEY', `opening ${where}: the identity is not one of age (${errorReason(cause)})`, {
      path: where,
      cause,
    });
  }
  try {
    return await decrypter.decrypt(Buffer.from(wrapped, 'base64'));
  } catch (cause) {
    throw new MapramError(
      'KEY',
      `opening ${where}: the key is a wrong one for this store (${errorReason(cause)}); give the identity or passphrase that it was encrypted for`,
      { path: where, cause },
    );
  }
}

export function locked(where: string): MapramError {
  return new MapramError(
    'KEY',
    `opening ${where}: it is encrypted; name the file of an age identity in MAPRAM_STORE_IDENTITY, or one that holds the passphrase in MAPRAM_STORE_PASSPHRASE_FILE`,
    { path: where },
  );
}

function deriveKeys(secret: Uint8Array, store: string): StoreKeys {
  const derive = (what: string) =>
    new Uint8Array(hkdfSync('sha256', secret, store, `mapram store 1 ${what}`, SECRET_BYTES));
  return {
    names: derive('names'),
    frames: derive('frames'),
    nonces: derive('nonces'),
    roots: derive('roots'),
  };
}

function keyCheck(secret: Uint8Array, store: string): string {
  return createHmac('sha256', secret).update(`mapram store 1 check ${store}`).digest('hex');
}
