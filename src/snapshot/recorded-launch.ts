/** The command line in a snapshot's manifest, and whether it may be used: it comes from a file, and it names programs. */
import { statSync } from 'node:fs';
import * as v from 'valibot';
import { MapramError } from '../errors.js';
import { type LaunchDisk, type LaunchRecord, lookAtDisk, readHostId } from '../launch/launch-record.js';
import { LaunchSchema } from '../manifest/launch-schema.js';
import type { MappedRamImage } from '../mapped-ram/image.js';

/** How the VM in `image` was started, where the file tells. */
export function recordedLaunch(image: MappedRamImage): LaunchRecord | undefined {
  const parsed = v.safeParse(LaunchSchema, (image.manifest as { launch?: unknown } | undefined)?.launch);
  return parsed.success ? parsed.output : undefined;
}

const WRITABLE_BY_OTHERS = 0o022;

/**
 * Refuses to run what somebody else could have put into `file`: only its owner, who must be this user or root, may be
 * able to write it.
 *
 * @throws MapramError `VM`
 */
export function assertTrusted(file: string): void {
  const { uid, mode } = statSync(file);
  const mine = uid === 0 || uid === process.getuid?.();
  if (mine && (mode & WRITABLE_BY_OTHERS) === 0) return;
  throw new MapramError(
    'VM',
    `resuming ${file}: ${mine ? 'others may write to it' : 'it belongs to another user'}, so the command line recorded in it is not run unasked; look at it with --print, then use --trust or give the command line behind --`,
    { path: file },
  );
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
