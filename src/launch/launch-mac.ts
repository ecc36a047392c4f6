/**
 * The proof that a launch record was made by this user on this host: an HMAC-SHA-256 under a key that only this user can read.
 *
 *     HMAC(key, "mapram launch record\n" + {"hostId":…,"launch":{…},"uid":…})     the JSON with all keys in order, without blanks
 *     key: 32 random bytes in launch.key of the user's configuration, made by the first save
 *
 * A file that somebody else has made, or changed, can carry no such proof, whoever owns it by now.
 */
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { errorReason, MapramError } from '../errors.js';
import { type LaunchRecord, readHostId } from './launch-record.js';
import {
  configurationFolder,
  currentUser,
  readConfiguration,
  writeConfiguration,
} from './user-configuration.js';

const KEY_FILE = 'launch.key';
const KEY_BYTES = 32;
const CONTEXT = 'mapram launch record\n';

/**
 * The record with the proof. The key is made where there is none yet.
 *
 * @throws MapramError `IO` when the user has no configuration of their own, or it cannot be written
 */
export async function withMac(launch: LaunchRecord): Promise<LaunchRecord> {
  let key = readKey();
  if (key === undefined) {
    await writeConfiguration(KEY_FILE, randomBytes(KEY_BYTES), 'keep');
    // Another save may have been faster.
    key = readKey();
  }
  if (key === undefined)
    throw new MapramError('IO', `reading ${configurationFolder()}/${KEY_FILE}: it is gone again`);
  const { mac: _, ...record } = launch;
  return { ...record, mac: macOf(record, key).toString('base64') };
}

/** In people's words, why a record is not known to be this user's on this host; undefined where it is. */
export function whyNotOwn({ mac, ...record }: LaunchRecord): string | undefined {
  if (mac === undefined) return 'the file does not prove who recorded it';
  if (record.hostId !== readHostId()) return 'it was recorded on another host';
  let key: Buffer | undefined;
  try {
    key = readKey();
  } catch (error) {
    return `that this user recorded it cannot be checked (${errorReason(error)})`;
  }
  if (key === undefined) return 'it was not recorded by this user';
  const given = Buffer.from(mac, 'base64');
  const expected = macOf(record, key);
  const own = given.length === expected.length && timingSafeEqual(given, expected);
  return own ? undefined : 'it was not recorded by this user, or has changed since';
}

function readKey(): Buffer | undefined {
  const key = readConfiguration(KEY_FILE);
  if (key === undefined || key.length === KEY_BYTES) return key;
  throw new MapramError(
    'IO',
    `reading ${configurationFolder()}/${KEY_FILE}: it has ${key.length} bytes instead of ${KEY_BYTES}; remove it`,
  );
}

function macOf(launch: Omit<LaunchRecord, 'mac'>, key: Buffer): Buffer {
  const text = canonicalJson({ launch, hostId: readHostId() ?? null, uid: currentUser() });
  return createHmac('sha256', key).update(CONTEXT).update(text).digest();
}

/** JSON with the keys of every object in order and no blanks: the same values give the same text. */
export function canonicalJson(value: unknown): string {
  return JSON.stringify(value, (_, member: unknown) =>
    typeof member === 'object' && member !== null && !Array.isArray(member)
      ? Object.fromEntries(Object.entries(member).sort(([a], [b]) => (a < b ? -1 : 1)))
      : member,
  );
}
