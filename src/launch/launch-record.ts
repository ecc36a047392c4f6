/**
 * How a running QEMU was started: enough to start another one like it. Kept in the manifest of a snapshot, so it holds no secrets.
 */

import { createHash } from 'node:crypto';
import { readFileSync, readlinkSync, statSync } from 'node:fs';
import path from 'node:path';
import { defined } from '../defined.js';
import { errorReason, MapramError } from '../errors.js';
import { processUsers, userName } from '../io/process/process-user.js';
import { type CommandLineOption, formatCommandLine, parseCommandLine } from './command-line.js';
import { diskArguments } from './disks.js';
import { persistentMemory } from './memory-files.js';
import { withoutOwnMonitor } from './own-monitor.js';
import { type OmittedSecret, omitSecrets } from './secrets.js';
import { currentUser } from './user-configuration.js';

/** An image as it was when the VM was saved. */
export interface LaunchDisk {
  /** Absolute, as seen by the QEMU that had it open. */
  path: string;
  /** Bytes; 0 for block devices. */
  size: number;
  mtimeMs: number;
  /** As the command line names it. */
  format?: string;
  readOnly: boolean;
}

export interface LaunchRecord {
  /** Absolute path of the QEMU binary. */
  program: string;
  /** Its arguments, secrets replaced by marks. */
  arguments: string[];
  omitted: OmittedSecret[];
  /** Further arguments for devices that were plugged in after the start; absent where there are none. */
  plugged?: string[];
  /** In people's words, back ends of these devices that the arguments do not make; absent where there are none. */
  missing?: string[];
  workingDirectory: string;
  disks: LaunchDisk[];
  /**
   * Whose process it was. Of one that has the rights of several users, one who is not the user that recorded it. Absent in files of
   * early versions.
   */
  uid?: number;
  /** What that user was called on the host of the save. */
  user?: string;
  /** Identifies the host without telling which it is; absent where the host has no machine id. */
  hostId?: string;
  /** Proves to the user who recorded it that nobody else did, base64; see launch-mac.ts. */
  mac?: string;
}

/**
 * Reads the record of process `pid` from /proc.
 *
 * @param plugged options for what was added since the start, whose disks are recorded as well
 * @throws MapramError `IO` when the process is gone or belongs to another user
 */
export function recordLaunch(pid: number, plugged: readonly CommandLineOption[] = []): LaunchRecord {
  const words = readProc(pid, () => readFileSync(`/proc/${pid}/cmdline`, 'utf8'))
    .split('\0')
    .slice(0, -1);
  const executable = readProc(pid, () => readlinkSync(`/proc/${pid}/exe`));
  const [calledAs = executable, ...args] = words;
  const given = withoutOwnMonitor(parseCommandLine(args));
  const workingDirectory = directoryOfNames(pid, given);
  const { options, omitted } = omitSecrets(given);
  const hostId = readHostId();
  const uid = ownerOf(pid);
  const user = userName(uid);
  return {
    // After an upgrade the running binary has no name any more, but the new one has the name it was called by.
    program: executable.endsWith(' (deleted)') ? path.resolve(workingDirectory, calledAs) : executable,
    arguments: formatCommandLine(options),
    omitted,
    workingDirectory,
    disks: [...diskArguments([...given, ...plugged]), ...persistentMemory([...given, ...plugged])].flatMap(
      ({ path: name, format, readOnly }) => {
        const disk = lookAtDisk(path.resolve(workingDirectory, name));
        return disk === undefined ? [] : [{ ...disk, ...defined({ format }), readOnly }];
      },
    ),
    uid,
    ...defined({ plugged: plugged.length === 0 ? undefined : formatCommandLine(plugged) }),
    ...defined({ user, hostId }),
  };
}

/**
 * The directory that relative names of the command line start from. QEMU with `-daemonize` changes to `/` once it has opened its files; the
 * `PWD` that it inherited from its shell still names the directory in which it was started.
 */
function directoryOfNames(pid: number, options: readonly CommandLineOption[]): string {
  const current = readProc(pid, () => readlinkSync(`/proc/${pid}/cwd`));
  if (current !== '/' || !options.some(({ name }) => name === 'daemonize')) return current;
  const environment = readProc(pid, () => readFileSync(`/proc/${pid}/environ`, 'utf8')).split('\0');
  const inherited = environment.find((entry) => entry.startsWith('PWD='))?.slice('PWD='.length) ?? '';
  return path.isAbsolute(inherited) && isDirectory(inherited) ? inherited : current;
}

function isDirectory(place: string): boolean {
  return statSync(place, { throwIfNoEntry: false })?.isDirectory() === true;
}

/** Whoever of its users is not this one could have chosen what it shows of itself. */
function ownerOf(pid: number): number {
  const users = readProc(pid, () => processUsers(pid));
  return users.find((uid) => uid !== currentUser()) ?? users[0];
}

/** An identifier of this host that says nothing about it, from /etc/machine-id. */
export function readHostId(): string | undefined {
  try {
    const id = readFileSync('/etc/machine-id', 'latin1').trim();
    return id === '' ? undefined : createHash('sha256').update(`mapram ${id}`).digest('hex').slice(0, 32);
  } catch {
    return undefined;
  }
}

/** The record with the disks as they are now; what is gone by now is left out. */
export function withDisksOfNow(record: LaunchRecord): LaunchRecord {
  return {
    ...record,
    disks: record.disks.flatMap((disk) => {
      const now = lookAtDisk(disk.path);
      return now === undefined ? [] : [{ ...disk, ...now }];
    }),
  };
}

/** Size and time of an image now; undefined where there is none. */
export function lookAtDisk(file: string): Pick<LaunchDisk, 'path' | 'size' | 'mtimeMs'> | undefined {
  try {
    const found = statSync(file);
    // Memory in a folder is a file without a name, made anew each time.
    if (found.isDirectory()) return undefined;
    const { size, mtimeMs } = found;
    return { path: file, size, mtimeMs: Math.floor(mtimeMs) };
  } catch {
    return undefined;
  }
}

function readProc<T>(pid: number, read: () => T): T {
  try {
    return read();
  } catch (cause) {
    throw new MapramError(
      'IO',
      `reading how process ${pid} was started: ${errorReason(cause)}; run as the user of that process`,
      { path: `/proc/${pid}`, cause },
    );
  }
}
