/**
 * What mapram keeps about its user, in files that nobody else may have written:
 *
 * ```
 * $XDG_CONFIG_HOME/mapram/launch.key        else ~/.config/mapram; folder 0700, files 0600
 *                        /trusted-keys
 * ```
 */
import { randomUUID } from 'node:crypto';
import {
  constants,
  existsSync,
  fstatSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  type Stats,
  statSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { errorReason, MapramError } from '../errors.js';
import { linkFile, renameFile, unlinkFile } from '../io/file/file-names.js';
import { syncDirectoryOf, syncFileData } from '../io/file/file-sync.js';
import { closeFile, openFile } from '../io/file/open-file.js';
import { writeFully } from '../io/file/positional-io.js';
import { describeUser } from '../io/process/process-user.js';
import { hasErrno } from '../io/system-error.js';

const WRITABLE_BY_OTHERS = 0o022;
const FOR_OTHERS = 0o077;
const EVERYBODY_WRITES = 0o002;
const STICKY = 0o1000;

/** Larger files are none of mapram's. */
const MAX_BYTES = 1 << 20;

/** The user whose rights this process has. */
export function currentUser(): number {
  return process.geteuid?.() ?? 0;
}

/**
 * Where the configuration of this user is, whether or not it is there yet.
 *
 * @throws MapramError `IO` for a user without a home directory
 */
export function configurationFolder(): string {
  const { XDG_CONFIG_HOME = '', HOME = '' } = process.env;
  if (path.isAbsolute(XDG_CONFIG_HOME)) return path.join(XDG_CONFIG_HOME, 'mapram');
  const home = path.isAbsolute(HOME) ? HOME : homeOfUser();
  return path.join(home, '.config', 'mapram');
}

/** As the list of users has it, which may not have this one. */
function homeOfUser(): string {
  try {
    const home = os.userInfo().homedir;
    if (path.isAbsolute(home)) return home;
  } catch {
    // Neither is in the list.
  }
  throw new MapramError(
    'IO',
    `looking for the configuration of ${describeUser(currentUser())}: the user has no home directory; set HOME or XDG_CONFIG_HOME`,
  );
}

/**
 * The contents of one of the files; undefined where there is none.
 *
 * @throws MapramError `IO` when it cannot be read, or others could have written it, or read it
 */
export function readConfiguration(name: string): Buffer | undefined {
  const folder = configurationFolder();
  const file = path.join(folder, name);
  let fd: number;
  try {
    if (!existsSync(folder)) return undefined;
    assertOwnFolder(folder);
    fd = openFile(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return undefined;
    throw failure('reading', file, error);
  }
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile()) throw new Error('it is not a regular file');
    assertOwn(stat, FOR_OTHERS);
    if (stat.size > MAX_BYTES) throw new Error(`it has ${stat.size} bytes`);
    return readFileSync(fd);
  } catch (error) {
    throw failure('reading', file, error);
  } finally {
    closeFile(fd);
  }
}

/**
 * Writes one of the files, whole and on the disk when this resolves.
 *
 * @param existing what becomes of a file that is there already
 * @returns false where one was there and has been kept
 * @throws MapramError `IO`
 */
export async function writeConfiguration(
  name: string,
  contents: Uint8Array,
  existing: 'keep' | 'replace',
): Promise<boolean> {
  const folder = configurationFolder();
  const file = path.join(folder, name);
  const draft = path.join(folder, `.${name}.${randomUUID()}`);
  try {
    createFolder(folder);
    const fd = openFile(
      draft,
      constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW,
    );
    try {
      writeFully(fd, contents, 0);
      await syncFileData(fd);
    } finally {
      closeFile(fd);
    }
    if (existing === 'replace') renameFile(draft, file);
    else linkFile(draft, file);
    await syncDirectoryOf(file);
    return true;
  } catch (error) {
    if (existing === 'keep' && hasErrno(error, 'EEXIST')) return false;
    throw failure('writing', file, error);
  } finally {
    removeDraft(draft);
  }
}

/**
 * A folder that is made in the home of somebody else would lock that user out, and be theirs to exchange. Made one by one: Node's own
 * recursion does not end where a file system, such as /proc, denies that a parent is there.
 */
function createFolder(folder: string): void {
  const missing: string[] = [];
  for (let name = folder; !existsSync(name); name = path.dirname(name)) missing.unshift(name);
  const [first] = missing;
  if (first !== undefined) assertSafeParent(path.dirname(first));
  for (const name of missing) {
    try {
      mkdirSync(name, { mode: 0o700 });
    } catch (error) {
      if (!hasErrno(error, 'EEXIST')) throw error;
    }
  }
  assertOwnFolder(folder);
}

function assertOwnFolder(folder: string): void {
  assertSafeParent(path.dirname(folder));
  assertOwn(statSync(folder), WRITABLE_BY_OTHERS, `the folder ${folder}`);
}

function assertSafeParent(folder: string): void {
  const { uid, mode } = statSync(folder);
  if (uid !== currentUser() && uid !== 0) throw new Error(`${folder} belongs to ${describeUser(uid)}`);
  if ((mode & EVERYBODY_WRITES) !== 0 && (mode & STICKY) === 0)
    throw new Error(`anyone may write to ${folder}`);
}

function assertOwn({ uid, mode }: Stats, forbidden: number, what = 'it'): void {
  if (uid !== currentUser()) throw new Error(`${what} belongs to ${describeUser(uid)}`);
  if ((mode & forbidden) !== 0) {
    throw new Error(
      `${what} has mode ${(mode & 0o777).toString(8)}, which gives others rights; take them away`,
    );
  }
}

function removeDraft(draft: string): void {
  try {
    if (lstatSync(draft, { throwIfNoEntry: false }) !== undefined) unlinkFile(draft);
  } catch {
    // It holds nothing that anyone would miss.
  }
}

function failure(doing: string, file: string, cause: unknown): MapramError {
  return new MapramError('IO', `${doing} ${file}: ${errorReason(cause)}`, { path: file, cause });
}
