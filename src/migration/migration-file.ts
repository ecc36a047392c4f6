/**
 * The file of a migration, opened the way QEMU opens it (system-call traces of 10.0.2):
 *
 *     main channel      O_WRONLY | O_CREAT, 0600, cut at the offset     headers, bitmaps, device state: unaligned, buffered
 *     channel 0 … N-1   O_WRONLY [| O_DIRECT], each an open of its own   pages at their slots: aligned
 *
 * Unlike QEMU, which opens the path each time, channels open the main channel's file again (/proc/self/fd): another file that is
 * put at the path meanwhile gets no page.
 *
 * This is where `direct-io` becomes open(2) flags: `effectiveDirectIo` decides whether it is wanted, `direct` is what the
 * channels are then opened with.
 */
import { constants } from 'node:fs';
import type { FileChannelsOptions } from '../channels/file/file-channels.js';
import { MapramError } from '../errors.js';
import { O_DIRECT } from '../io/file/direct-io-support.js';
import { truncateFile } from '../io/file/file-space.js';
import { closeFile, openFile, reopenFile } from '../io/file/open-file.js';
import { hasErrno } from '../io/system-error.js';
import { effectiveDirectIo } from '../options/direct-io.js';
import type { MigrationCapabilities } from '../options/migration-capabilities.js';
import type { MigrationParameters } from '../options/migration-parameters.js';

interface MigrationOptions {
  parameters: Pick<MigrationParameters, 'direct-io'>;
  capabilities: Pick<MigrationCapabilities, 'mapped-ram' | 'multifd'>;
}

export class MigrationFile implements Disposable {
  private constructor(
    /** For messages: the path or fdset that the user named. */
    readonly name: string,
    readonly mainFd: number,
    /** Where the stream starts in the file. */
    readonly offset: number,
    /** Of an fdset: the descriptor that all channels use. Otherwise each opens the main channel's file again. */
    private readonly sharedFd: number | undefined,
    /** Whether page channels use O_DIRECT. */
    readonly direct: boolean,
    private readonly ownsMain: boolean,
  ) {}

  /**
   * Opens `path` for an outgoing migration as `migrate file:PATH,offset=N` does: an existing file is kept up to the
   * offset and cut there.
   *
   * @throws MapramError `NO_DIRECT_IO` where the file system refuses O_DIRECT, before anything is changed; `IO`
   */
  static create(path: string, offset: number, options: MigrationOptions): MigrationFile {
    const direct = effectiveDirectIo(options.parameters, options.capabilities);
    const mainFd = open(path, constants.O_WRONLY | constants.O_CREAT, 'create');
    try {
      if (direct) assertTakesDirect(mainFd, path, constants.O_WRONLY);
      truncateFile(mainFd, offset);
    } catch (error) {
      closeFile(mainFd);
      throw error;
    }
    return new MigrationFile(path, mainFd, offset, undefined, direct, true);
  }

  /** As `create`, for a file that the caller holds open (buffered, writable) and names `path`. */
  static adopt(path: string, mainFd: number, offset: number, options: MigrationOptions): MigrationFile {
    const direct = effectiveDirectIo(options.parameters, options.capabilities);
    if (direct) assertTakesDirect(mainFd, path, constants.O_WRONLY);
    return new MigrationFile(path, mainFd, offset, undefined, direct, false);
  }

  /** Opens `path` for an incoming migration: main channel O_RDONLY, channels O_RDONLY [| O_DIRECT]. */
  static open(path: string, offset: number, options: MigrationOptions): MigrationFile {
    const direct = effectiveDirectIo(options.parameters, options.capabilities);
    const mainFd = open(path, constants.O_RDONLY, 'open');
    try {
      if (direct) assertTakesDirect(mainFd, path, constants.O_RDONLY);
    } catch (error) {
      closeFile(mainFd);
      throw error;
    }
    return new MigrationFile(path, mainFd, offset, undefined, direct, true);
  }

  /**
   * The fdset variant: descriptors that the caller picked by access mode and O_DIRECT bit. They stay the caller's.
   *
   * @param channelFd the descriptor for all channels; `direct` tells whether it has O_DIRECT
   */
  static fromDescriptors(
    name: string,
    mainFd: number,
    channelFd: number,
    direct: boolean,
    offset: number,
  ): MigrationFile {
    return new MigrationFile(name, mainFd, offset, channelFd, direct, false);
  }

  /** For `FileChannels.open`: what `count` channels open or share. */
  channelTarget(count: number): Pick<FileChannelsOptions, 'path' | 'count' | 'image' | 'fds'> {
    const { name: path, mainFd, sharedFd } = this;
    return sharedFd === undefined
      ? { path, count, image: mainFd }
      : { path, count, fds: new Array<number>(count).fill(sharedFd) };
  }

  /** A descriptor of the file that holds the pages, to open it again with. */
  get channelFd(): number {
    return this.sharedFd ?? this.mainFd;
  }

  [Symbol.dispose](): void {
    if (this.ownsMain) closeFile(this.mainFd);
  }
}

function open(path: string, flags: number, verb: 'create' | 'open'): number {
  try {
    return openFile(path, flags);
  } catch (error) {
    // QEMU's wording, which monitor clients know.
    const text = (error as Error).message.replace(/^[A-Z]+: /, '').replace(/, open .*$/, '');
    throw new MapramError('IO', `Could not ${verb} '${path}': ${text}`, { path, cause: error });
  }
}

function assertTakesDirect(fd: number, path: string, flags: number): void {
  try {
    closeFile(reopenFile(fd, flags | O_DIRECT));
  } catch (error) {
    if (!hasErrno(error, 'EINVAL')) throw error;
    throw new MapramError('NO_DIRECT_IO', `Could not open '${path}': filesystem does not support O_DIRECT`, {
      path,
      cause: error,
    });
  }
}
