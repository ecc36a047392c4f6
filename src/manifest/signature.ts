/**
 * Ed25519 signatures of a file's root.
 *
 * What is signed is not the root alone but `mapram manifest root\n` and its 32 bytes, so that the same key can be used
 * for other things. Keys are PEM files: PKCS#8 for the private one, SPKI for the public one, as
 * `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout` write them.
 */
import { createPrivateKey, createPublicKey, type KeyObject, sign, verify } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { errorReason, MapramError } from '../errors.js';
import type { Manifest } from './manifest.js';

export type ManifestSignature = NonNullable<Manifest['signature']>;

const CONTEXT = Buffer.from('mapram manifest root\n');

/** @throws MapramError `USAGE` when there is no such file or it holds no Ed25519 private key */
export function readSigningKey(path: string): KeyObject {
  return readKey(path, 'private', (pem) => {
    if (pem.includes('PUBLIC KEY')) throw new Error('it holds a public key');
    return createPrivateKey(pem);
  });
}

/** @throws MapramError `USAGE` when there is no such file or it holds no Ed25519 public key */
export function readPublicKey(path: string): KeyObject {
  return readKey(path, 'public', (pem) => {
    if (pem.includes('PRIVATE KEY')) throw new Error('it holds a private key');
    return createPublicKey(pem);
  });
}

function readKey(path: string, kind: 'private' | 'public', create: (pem: string) => KeyObject): KeyObject {
  try {
    const key = create(readFileSync(path, 'latin1'));
    if (key.asymmetricKeyType !== 'ed25519')
      throw new Error(`it holds a key of type ${key.asymmetricKeyType}`);
    return key;
  } catch (cause) {
    const command = kind === 'private' ? 'openssl genpkey -algorithm ed25519' : 'openssl pkey -pubout';
    throw new MapramError(
      'USAGE',
      `reading the ${kind} key ${path}: ${whyNoKey(cause)}; give an Ed25519 key in PEM form, as "${command}" writes it`,
      { path, cause },
    );
  }
}

/** What OpenSSL says about what it cannot read is for those who know its source. */
function whyNoKey(error: unknown): string {
  const { code } = error as NodeJS.ErrnoException;
  return code?.startsWith('ERR_OSSL_') ? 'it holds no key that can be read' : errorReason(error);
}

/** The raw 32 bytes of a public key, also of the one that belongs to a private key. */
export function rawPublicKey(key: KeyObject): Buffer {
  const publicKey = key.type === 'private' ? createPublicKey(key) : key;
  return Buffer.from(publicKey.export({ format: 'jwk' }).x ?? '', 'base64url');
}

/** @param root 64 hexadecimal digits */
export function signRoot(root: string, key: KeyObject): ManifestSignature {
  const value = sign(null, signedBytes(root), key);
  return {
    algorithm: 'ed25519',
    publicKey: rawPublicKey(key).toString('base64'),
    value: value.toString('base64'),
  };
}

/** Whether the signature is one of this root by the key that it names. Says nothing about whose key that is. */
export function isSignatureOf(root: string, { publicKey, value }: ManifestSignature): boolean {
  const x = Buffer.from(publicKey, 'base64').toString('base64url');
  const key = createPublicKey({ format: 'jwk', key: { kty: 'OKP', crv: 'Ed25519', x } });
  return verify(null, signedBytes(root), key, Buffer.from(value, 'base64'));
}

function signedBytes(root: string): Buffer {
  return Buffer.concat([CONTEXT, Buffer.from(root, 'hex')]);
}
