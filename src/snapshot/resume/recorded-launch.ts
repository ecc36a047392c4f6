/** The command line in a snapshot's manifest, and whether it may be used: it comes from a file, and it names programs. */
import * as v from 'valibot';
import { MapramError } from '../../errors.js';
import { describeUser } from '../../io/process/process-user.js';
import { canonicalJson, whyNotOwn } from '../../launch/launch-mac.js';
import { type LaunchDisk, type LaunchRecord, lookAtDisk, readHostId } from '../../launch/launch-record.js';
import { currentUser } from '../../launch/user-configuration.js';
import { LaunchSchema } from '../../manifest/launch-schema.js';
import type { MappedRamImage } from '../../mapped-ram/image.js';
import type { CheckedFile } from '../files/checked-file.js';

/** How the VM in `image` was started, where the file tells. */
export function recordedLaunch(image: MappedRamImage): LaunchRecord | undefined {
  const parsed = v.safeParse(LaunchSchema, (image.manifest as { launch?: unknown } | undefined)?.launch);
  return parsed.success ? parsed.output : undefined;
}

/**
 * Whether a command line may be run:
 *
 * - `given`: the user gave it with the request
 * - `own`: this user recorded it on this host
 * - `signed`: the file is signed by a key that this user trusts
 * - `unknown`: somebody else may have written it: only after the user has said so
 * - `foreign`: it is that of another user's process, who may have chosen it, or exchange what it runs: not at all
 */
export type LaunchOrigin = 'given' | 'own' | 'signed' | 'unknown' | 'foreign';

export interface LaunchTrust {
  origin: LaunchOrigin;
  /** In people's words, for the last two. */
  reason?: string;
}

/** Whose word the command line in a file is. Nothing that is looked up goes by the path of the file. */
export async function trustIn(
  image: MappedRamImage,
  checked: CheckedFile,
  launch: LaunchRecord,
): Promise<LaunchTrust> {
  const { uid, user } = launch;
  if (uid !== undefined && uid !== currentUser()) {
    return { origin: 'foreign', reason: `its VM was run by ${describeUser(uid, user)}` };
  }
  const others = checked.whyOthersMayWrite();
  if (others !== undefined) return { origin: 'unknown', reason: others };
  const notOwn = whyNotOwn(launch);
  if (notOwn === undefined) return { origin: 'own' };
  const notSigned = await whyNotSigned(image, launch);
  if (notSigned === undefined) return { origin: 'signed' };
  return { origin: 'unknown', reason: `${notOwn}${notSigned}` };
}

/** Undefined where a trusted key has signed the record; else what there is to say about the signature. */
async function whyNotSigned(image: MappedRamImage, launch: LaunchRecord): Promise<string | undefined> {
  // Not needed for what the user saved here, which is not to wait for it.
  const [{ checkManifest }, { isTrustedKey }] = await Promise.all([
    import('../../manifest/check-manifest.js'),
    import('../../manifest/trusted-keys.js'),
  ]);
  const { manifest, problems } = await checkManifest(image);
  if (manifest?.signature === undefined) return '';
  if (problems.length > 0) return '; its signature is not valid';
  if (!isTrustedKey(manifest.signature.publicKey)) return '; the key that signed it is not trusted';
  // What was signed is what was read when the file was opened.
  return canonicalJson(manifest.launch) === canonicalJson(launch)
    ? undefined
    : '; its signature is not valid';
}

/**
 * Refuses to run what the user neither wrote nor agreed to.
 *
 * @param agreed `true`: to whatever the file says; or the fingerprint of the plan that was agreed to
 * @throws MapramError `UNTRUSTED`
 */
export function assertMayRun(
  file: string,
  { trust, fingerprint }: { trust: LaunchTrust; fingerprint: string },
  agreed: boolean | string = false,
): void {
  const { origin, reason } = trust;
  const refuse = (problem: string) =>
    new MapramError('UNTRUSTED', `resuming ${file}: ${problem}`, { path: file });
  if (origin === 'foreign') {
    throw refuse(
      `${reason}, whose command line is not run as ${describeUser(currentUser())}; resume it as that user, or look at it with --print and give the command line, program first, after --`,
    );
  }
  if (typeof agreed === 'string' && agreed !== fingerprint) {
    throw refuse('it would not be the command line that was shown; look at it again');
  }
  if (origin === 'unknown' && agreed === false) {
    throw refuse(
      `the command line recorded in it is not run unasked: ${reason}; look at it with --print, then use --trust, "mapram trust KEY" for the key of its signer, or give the command line, program first, after --`,
    );
  }
}

/** In people's words, that this is not the host on which the VM was saved, if so. */
export function hostChange({ hostId: then }: LaunchRecord): string[] {
  const now = readHostId();
  if (then === undefined || now === undefined || then === now) return [];
  return ['the VM was saved on another host: its command line may name things that this one has not'];
}

/** In people's words, which disks are not as they were when the VM was saved. */
export function changedDisks(disks: readonly LaunchDisk[]): string[] {
  return disks.flatMap((disk) => changeOf(disk) ?? []);
}

function changeOf(disk: LaunchDisk): string | undefined {
  const now = lookAtDisk(disk.path);
  if (now === undefined) return `${disk.path} is gone`;
  if (now.size !== disk.size) return `${disk.path} had ${disk.size} bytes and has ${now.size}`;
  if (now.mtimeMs !== disk.mtimeMs) return `${disk.path} was written to`;
  return undefined;
}
