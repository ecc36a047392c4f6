/**
 * A file that appears whole or not at all.
 *
 * It is written as `.NAME.mapram-part` in the same directory, created anew, locked against a second writer, synced, and only then
 * given its name. Until that moment a previous file of that name is untouched; after a crash the part file is
 * recognised by its name, and by nobody holding its lock.
 */
import { constants, fstatSync, lstatSync } from 'node:fs';
import path from 'node:path';
import { errorReason, MapramError } from '../../errors.js';
import { tryLock } from '../../io/file/file-lock.js';
import { linkFile, renameFile, unlinkFile } from '../../io/file/file-names.js';
import { syncDirectoryOf, syncFileData } from '../../io/file/file-sync.js';
import { closeFile, openFile } from '../../io/file/open-file.js';
import { hasErrno } from '../../io/system-error.js';

const PART_SUFFIX = '.mapram-part';
/** How often the place of a part file is cleared before whoever fills it again is given way to. */
const MOST_TRIES = 16;

/** Where `file` is written until it is complete. */
export function partPathOf(file: string): string {
  return path.join(path.dirname(file), `.${path.basename(file)}${PART_SUFFIX}`);
}

/** The file that a part file was to become, or undefined for any other name. */
export function targetOfPart(partPath: string): string | undefined {
  const name = path.basename(partPath);
  if (!name.startsWith('.') || !name.endsWith(PART_SUFFIX) || name.length <= PART_SUFFIX.length + 1) return;
  return path.join(path.dirname(partPath), name.slice(1, -PART_SUFFIX.length));
}

export class TargetFile implements Disposable {
  readonly file: string;
  /** Path under which the data are written until `publish`. */
  readonly partPath: string;
  readonly #force: boolean;
  #fd: number;

  private constructor(file: string, fd: number, force: boolean) {
    this.file = file;
    this.partPath = partPathOf(file);
    this.#fd = fd;
    this.#force = force;
  }

  /**
   * Checks that `file` may be written, and creates its part file, with mode 0600.
   *
   * @param force replace an existing regular file when the new one is complete
   * @throws MapramError `EXISTS`, `BUSY` when another process writes it, `IO`, `UNSUPPORTED` for devices and FIFOs
   */
  static create(file: string, { force = false }: { force?: boolean } = {}): TargetFile {
    const absolute = path.resolve(file);
    refuseUnsuitable(absolute, force);
    for (let tries = 0; tries < MOST_TRIES; tries++) {
      const fd = createPart(absolute);
      if (fd !== undefined) return new TargetFile(absolute, fd, force);
      clearPlace(absolute);
    }
    throw new MapramError(
      'BUSY',
      `creating ${absolute}: other processes keep creating ${partPathOf(absolute)}; choose another name`,
      { path: absolute },
    );
  }

  /** The locked descriptor: read and write, buffered. */
  get fd(): number {
    return this.#fd;
  }

  /**
   * Syncs the data, gives the file its name and syncs the directory. When this returns the file is on disk, whole.
   *
   * @throws MapramError `EXISTS` when somebody created the file meanwhile and `force` was not given; `IO` when another process
   * has removed the part file, or put another file in its place
   */
  async publish(): Promise<void> {
    try {
      await syncFileData(this.#fd);
      this.#assertAt(this.partPath);
      if (this.#force) this.#rename();
      else this.#linkWithoutReplacing();
      await syncDirectoryOf(this.file);
      this.#assertAt(this.file);
    } catch (error) {
      if (error instanceof MapramError) throw error;
      throw new MapramError('IO', `publishing ${this.file}: ${errorReason(error)}`, {
        path: this.file,
        cause: error,
      });
    }
    this.#close();
  }

  /** Unlike rename(2), link(2) never replaces; file systems without hard links get the small race. */
  #linkWithoutReplacing(): void {
    try {
      linkFile(this.partPath, this.file);
    } catch (error) {
      if (hasErrno(error, 'EEXIST')) throw alreadyExists(this.file, error);
      if (!hasErrno(error, 'EPERM', 'EOPNOTSUPP', 'ENOTSUP', 'ENOSYS', 'EMLINK')) throw error;
      refuseUnsuitable(this.file, false);
      this.#rename();
      return;
    }
    unlinkFile(this.partPath);
  }

  #rename(): void {
    try {
      renameFile(this.partPath, this.file);
    } catch (cause) {
      throw new MapramError(
        'IO',
        `publishing ${this.file}: what was written is complete, but may not get this name: ${errorReason(cause)}; the file system, or whoever serves it (FUSE, NFS), refuses to rename files in ${path.dirname(this.file)}`,
        { path: this.file, cause },
      );
    }
  }

  /** In a directory that others may write to, a name may lead to another file than the one that was written. */
  #assertAt(name: string): void {
    if (samePlace(this.#fd, name)) return;
    throw new MapramError(
      'IO',
      `publishing ${this.file}: another process removed or replaced the file while it was written; choose a directory that only you can write to`,
      { path: this.file },
    );
  }

  /** Removes what was written. Does nothing after `publish`. */
  discard(): void {
    if (this.#fd < 0) return;
    const { dev, ino } = fstatSync(this.#fd);
    const remove = () => {
      const named = lstatSync(this.partPath);
      if (named.dev === dev && named.ino === ino) unlinkFile(this.partPath);
    };
    try {
      remove();
      this.#close();
    } catch {
      // Gone already, or on a file system that renames what is removed while it is open, and may not: FUSE, NFS.
      this.#close();
      ignoringFailure(remove);
    }
  }

  [Symbol.dispose](): void {
    this.discard();
  }

  #close(): void {
    const fd = this.#fd;
    this.#fd = -1;
    if (fd >= 0) closeFile(fd);
  }
}

/**
 * Creates the part file of `file`, locked. It is new: nobody else has it open, and it has one name.
 *
 * @returns undefined where something is in its place already, or another writer took it for left over before it was locked
 */
function createPart(file: string): number | undefined {
  const partPath = partPathOf(file);
  let fd: number;
  try {
    fd = openFile(partPath, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW);
  } catch (error) {
    if (hasErrno(error, 'EEXIST')) return undefined;
    throw creationError(file, error);
  }
  try {
    if (tryLock(fd, 'exclusive') && samePlace(fd, partPath)) return fd;
    closeFile(fd);
    return undefined;
  } catch (error) {
    closeFile(fd);
    throw error;
  }
}

/**
 * Removes what is in the place of the part file of `file`: what a dead writer left, or what another user put there. Nothing is ever
 * written to it, since others may have it open or know it by another name.
 *
 * @throws MapramError `BUSY` where another process of this user writes it; `IO` where it cannot be removed
 */
function clearPlace(file: string): void {
  const partPath = partPathOf(file);
  const fd = openOwnPart(partPath);
  try {
    if (fd !== undefined && !tryLock(fd, 'exclusive')) {
      throw new MapramError(
        'BUSY',
        `creating ${file}: another process is writing it now, wait for it or choose another name`,
        { path: file },
      );
    }
    if (fd === undefined || samePlace(fd, partPath)) removePart(file, partPath);
  } finally {
    if (fd !== undefined) closeFile(fd);
  }
}

/** A descriptor of a part file as this user's mapram makes them; undefined for anything else, whose lock means nothing. */
function openOwnPart(partPath: string): number | undefined {
  let fd: number;
  try {
    fd = openFile(partPath, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch {
    return undefined;
  }
  const { uid, mode, nlink } = fstatSync(fd);
  const own =
    (mode & constants.S_IFMT) === constants.S_IFREG &&
    (mode & 0o077) === 0 &&
    nlink === 1 &&
    uid === process.geteuid?.();
  if (own) return fd;
  closeFile(fd);
  return undefined;
}

function removePart(file: string, partPath: string): void {
  try {
    unlinkFile(partPath);
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return;
    throw new MapramError(
      'IO',
      `creating ${file}: ${partPath} is in the way and cannot be removed (${errorReason(error)}); choose another name or directory`,
      { path: file, cause: error },
    );
  }
}

function creationError(file: string, error: unknown): MapramError {
  return new MapramError('IO', `creating ${file}: ${creationFailure(error, path.dirname(file))}`, {
    path: file,
    cause: error,
  });
}

function refuseUnsuitable(file: string, force: boolean): void {
  let stat: ReturnType<typeof lstatSync>;
  try {
    stat = lstatSync(file);
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return;
    throw creationError(file, error);
  }
  const kind = stat.isDirectory()
    ? 'a directory'
    : stat.isFIFO()
      ? 'a FIFO'
      : stat.isSocket()
        ? 'a socket'
        : stat.isBlockDevice() || stat.isCharacterDevice()
          ? 'a device'
          : undefined;
  if (kind !== undefined) {
    throw new MapramError(
      'UNSUPPORTED',
      `creating ${file}: it is ${kind}, and a snapshot must be a regular file; choose another path`,
      {
        path: file,
      },
    );
  }
  if (!force) throw alreadyExists(file);
}

function alreadyExists(file: string, cause?: unknown): MapramError {
  return new MapramError(
    'EXISTS',
    `creating ${file}: it exists already, use --force to replace it when the new one is complete`,
    {
      path: file,
      cause,
    },
  );
}

function creationFailure(error: unknown, directory: string): string {
  if (hasErrno(error, 'ENOENT')) return `there is no directory ${directory}`;
  if (hasErrno(error, 'ENOTDIR')) return `${directory} is not a directory`;
  if (hasErrno(error, 'EACCES', 'EPERM')) return `the directory ${directory} is not writable`;
  if (hasErrno(error, 'EROFS')) return `the file system of ${directory} is read-only`;
  return errorReason(error);
}

/** Nothing is left behind, or it cannot be helped. */
function ignoringFailure(work: () => void): void {
  try {
    work();
  } catch {}
}

function samePlace(fd: number, name: string): boolean {
  try {
    const open = fstatSync(fd);
    const named = lstatSync(name);
    return open.ino === named.ino && open.dev === named.dev;
  } catch (error) {
    if (hasErrno(error, 'ENOENT')) return false;
    throw error;
  }
}
