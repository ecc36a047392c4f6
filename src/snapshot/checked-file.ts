/**
 * The file behind an image that is checked and then used. Everything goes through the descriptor that was checked: what is
 * at the path by then may be another file.
 */
import { constants, fstatSync, type Stats, statSync } from 'node:fs';
import { MapramError } from '../errors.js';
import { O_DIRECT } from '../io/direct-io-support.js';
import { releaseFiles, reopenFile } from '../io/open-file.js';
import type { MappedRamImage } from '../mapped-ram/image.js';

export class CheckedFile {
  private constructor(
    readonly path: string,
    /** The image's own descriptor, which stays its to close. */
    readonly fd: number,
    private readonly stat: Stats,
  ) {}

  /**
   * @param path under which others are going to open it; by default as the image was
   * @throws MapramError `USAGE` for an image that is no file
   */
  static of({ path: opened, descriptor }: MappedRamImage, path = opened): CheckedFile {
    if (descriptor === undefined) throw new MapramError('USAGE', `checking ${path}: it is not a file`);
    return new CheckedFile(path, descriptor, fstatSync(descriptor));
  }

  /** Opens the same file again, read-only. */
  open(direct: boolean): { fd: number } & Disposable {
    const fd = reopenFile(this.fd, constants.O_RDONLY | (direct ? O_DIRECT : 0));
    return { fd, [Symbol.dispose]: () => releaseFiles([fd]) };
  }

  /**
   * Makes sure that the path still leads to this file, for those that open it by its path, and that nobody has written to it.
   * Writers that hide by setting the file's time back are not seen: who may write to a snapshot is trusted.
   *
   * @param doing what it is used for, for the message: `resuming`
   * @throws MapramError `VM`
   */
  assertUnchanged(doing: string): void {
    const { path, stat: then } = this;
    const named = statSync(path, { throwIfNoEntry: false });
    const now = fstatSync(this.fd);
    const replaced = named === undefined || named.ino !== then.ino || named.dev !== then.dev;
    if (!replaced && now.size === then.size && now.mtimeMs === then.mtimeMs) return;
    const what = named === undefined ? 'removed' : replaced ? 'replaced' : 'changed';
    throw new MapramError(
      'VM',
      `${doing} ${path}: the file was ${what} meanwhile; a snapshot must stay as it is while VMs are made from it`,
      { path },
    );
  }
}
