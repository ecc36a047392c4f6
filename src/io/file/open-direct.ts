import { constants } from 'node:fs';
import { errorReason, MapramError } from '../../errors.js';
import { platformHasDirectIo } from '../../platform.js';
import { hasErrno } from '../system-error.js';
import { O_DIRECT } from './direct-io-support.js';
import { openFile, PRIVATE_FILE_MODE } from './open-file.js';

/** `auto` falls back to buffered I/O with a reason, `on` refuses, `off` does not try. */
export type DirectIoMode = 'auto' | 'on' | 'off';

export interface OpenDirectOptions {
  access: 'read' | 'write' | 'read-write';
  mode: DirectIoMode;
  /** Create the file (0600, symbolic links refused); `exclusive` fails when it exists. Default: must exist. */
  create?: 'if-missing' | 'exclusive';
  /** For messages; the path by default. */
  name?: string;
  /** For tests: what the platform offers, default `fs.constants`. */
  platform?: { O_DIRECT?: number | undefined };
}

export interface OpenedDirect {
  fd: number;
  /** Whether the descriptor has O_DIRECT. */
  direct: boolean;
  /** Why it has not, although it was wanted. */
  reason?: string;
}

const ACCESS_FLAGS = {
  read: constants.O_RDONLY,
  write: constants.O_WRONLY,
  'read-write': constants.O_RDWR,
};

/**
 * Opens a file for page data, with O_DIRECT if `mode` and the file system allow.
 *
 * @throws MapramError `NO_DIRECT_IO` with mode `on` where it is refused (open gives EINVAL, as on ramfs), `EXISTS` for
 * an exclusive creation, `IO` for everything else.
 */
export function openDirect(path: string, options: OpenDirectOptions): OpenedDirect {
  const { access, mode, create, name = path, platform = constants } = options;
  let flags = ACCESS_FLAGS[access];
  if (create !== undefined) flags |= constants.O_CREAT | constants.O_NOFOLLOW;
  if (create === 'exclusive') flags |= constants.O_EXCL;
  if (mode === 'off') return { fd: open(path, flags, name), direct: false };

  let reason = 'this platform has no O_DIRECT';
  let cause: unknown;
  if (platformHasDirectIo(platform)) {
    try {
      return { fd: openFile(path, flags | O_DIRECT, PRIVATE_FILE_MODE), direct: true };
    } catch (error) {
      if (!hasErrno(error, 'EINVAL')) throw openError(name, error);
      // open may have created the file before the file system refused the flag.
      flags &= ~constants.O_EXCL;
      reason = 'the file system does not support O_DIRECT';
      cause = error;
    }
  }
  if (mode === 'on') {
    throw new MapramError(
      'NO_DIRECT_IO',
      `opening ${name} for direct I/O: ${reason}; use a file on a disk file system, or direct I/O mode auto or off`,
      { path: name, cause },
    );
  }
  return { fd: open(path, flags, name), direct: false, reason };
}

function open(path: string, flags: number, name: string): number {
  try {
    return openFile(path, flags, PRIVATE_FILE_MODE);
  } catch (error) {
    throw openError(name, error);
  }
}

function openError(path: string, error: unknown): MapramError {
  const code = hasErrno(error, 'EEXIST') ? 'EXISTS' : 'IO';
  return new MapramError(code, `opening ${path}: ${errorReason(error)}`, { path, cause: error });
}
