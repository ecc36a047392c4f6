/**
 * The file behind an image that is checked and then used. Everything goes through the descriptor that was checked: what is
 * at the path by then may be another file.
 */
import { type BigIntStats, constants, fstatSync, statSync } from 'node:fs';
import { MapramError } from '../../errors.js';
import { O_DIRECT } from '../../io/file/direct-io-support.js';
import { releaseFiles, reopenFile } from '../../io/file/open-file.js';
import { type MappedFile, mappedFile } from '../../io/process/process-maps.js';
import { describeUser } from '../../io/process/process-user.js';
import { currentUser } from '../../launch/user-configuration.js';
import type { MappedRamImage } from '../../mapped-ram/image.js';

const WRITABLE_BY_OTHERS = 0o022n;

/** What every write to a file changes. A user can set mtime back, the kernel sets ctime whenever one does. */
const KEPT = ['size', 'mtimeNs', 'ctimeNs'] as const;

export class CheckedFile {
  #mapped: MappedFile | undefined;

  private constructor(
    readonly path: string,
    /** The image's own descriptor, which stays its to close. */
    readonly fd: number,
    /** As it was before anything was read from it. */
    private readonly status: BigIntStats,
  ) {}

  /**
   * @param path under which others are going to open it; by default as the image was
   * @throws MapramError `USAGE` for an image that is no file
   */
  static of({ path: opened, descriptor, status }: MappedRamImage, path = opened): CheckedFile {
    if (descriptor === undefined || status === undefined) {
      throw new MapramError('USAGE', `checking ${path}: it is not a file`);
    }
    return new CheckedFile(path, descriptor, status);
  }

  /** Opens the same file again, read-only. */
  open(direct: boolean): { fd: number } & Disposable {
    const fd = reopenFile(this.fd, constants.O_RDONLY | (direct ? O_DIRECT : 0));
    return { fd, [Symbol.dispose]: () => releaseFiles([fd]) };
  }

  /** What tells this file, as it is, from every other one and from itself after a change. */
  get identity(): string {
    const { dev, ino, size, mtimeNs, ctimeNs } = this.status;
    return [dev, ino, size, mtimeNs, ctimeNs].join(':');
  }

  /** How this file is shown in the memory of processes that have mapped it. */
  get mapped(): MappedFile {
    this.#mapped ??= mappedFile(this.fd);
    return this.#mapped;
  }

  /**
   * Makes sure that the path still leads to this file, for those that open it by its path, and that nobody has written to it.
   *
   * @param doing what it is used for, for the message: `resuming`
   * @throws MapramError `VM`
   */
  assertUnchanged(doing: string): void {
    const { path, status: then } = this;
    const named = statSync(path, { throwIfNoEntry: false, bigint: true });
    const now = fstatSync(this.fd, { bigint: true });
    const replaced = named === undefined || named.ino !== then.ino || named.dev !== then.dev;
    if (!replaced && KEPT.every((key) => now[key] === then[key])) return;
    const what = named === undefined ? 'removed' : replaced ? 'replaced' : 'changed';
    throw new MapramError(
      'VM',
      `${doing} ${path}: the file was ${what} meanwhile; a snapshot must stay as it is while VMs are made from it`,
      { path },
    );
  }

  /** In people's words, who but this user and root may write to the file; undefined where nobody else may. */
  whyOthersMayWrite(): string | undefined {
    const { uid, mode } = fstatSync(this.fd, { bigint: true });
    if (uid !== 0n && uid !== BigInt(currentUser())) return `it belongs to ${describeUser(Number(uid))}`;
    return (mode & WRITABLE_BY_OTHERS) === 0n ? undefined : 'others may write to it';
  }

  /**
   * Refuses a file that others could write to between its check and its use. Writes through a mapping leave no trace in its times.
   *
   * @throws MapramError `UNTRUSTED`
   */
  assertOnlyOwn(doing: string): void {
    const problem = this.whyOthersMayWrite();
    if (problem === undefined) return;
    const { path } = this;
    throw new MapramError(
      'UNTRUSTED',
      `${doing} ${path}: ${problem}, so it may change after its signature was checked; copy it to a file of your own that nobody else may write to`,
      { path },
    );
  }
}
