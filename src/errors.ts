/**
 * Every failure that mapram reports is a `MapramError`: one sentence for people, a `code` for programs.
 *
 * The sentence says what was being done, to which file or socket, what went wrong and what to try, in that order.
 */
import { getSystemErrorMap, types } from 'node:util';

export type MapramErrorCode =
  /** Wrong arguments: the command line exits with 2. */
  | 'USAGE'
  /** A file is not what it should be: foreign, cut short, damaged or contradicting itself. */
  | 'FORMAT'
  /** A well-formed file or request asks for something that is not supported. */
  | 'UNSUPPORTED'
  /** A system call failed. `cause` holds the original error with its errno name. */
  | 'IO'
  /** The file system refuses O_DIRECT and it was required. */
  | 'NO_DIRECT_IO'
  /** Not enough free space. */
  | 'NO_SPACE'
  /** The target exists and overwriting was not asked for. */
  | 'EXISTS'
  /** Something is encrypted, and the key is missing or another one. */
  | 'KEY'
  /** Another process holds the file or the VM. */
  | 'BUSY'
  /** The monitor could not be reached, is not a QMP server, or went away. */
  | 'MONITOR'
  /** QEMU answered a command with an error. */
  | 'QMP'
  /** The VM is in a state in which this cannot be done, or differs from the file. */
  | 'VM'
  /** What somebody else may have written would be run or loaded, and nobody has said that it may. */
  | 'UNTRUSTED'
  /** A migration failed. */
  | 'MIGRATION'
  /** The caller's AbortSignal fired or the user pressed ^C. */
  | 'CANCELLED';

export interface MapramErrorDetails {
  /** The file, directory or socket concerned. */
  path?: string;
  /** Byte offset in that file, where one place is to blame. */
  offset?: number;
  cause?: unknown;
}

export class MapramError extends Error {
  override readonly name: string = 'MapramError';
  readonly path?: string;
  readonly offset?: number;

  constructor(
    readonly code: MapramErrorCode,
    message: string,
    details: MapramErrorDetails = {},
  ) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    if (details.path !== undefined) this.path = details.path;
    if (details.offset !== undefined) this.offset = details.offset;
  }
}

/**
 * True for an error of any realm. Jest and `node:vm` run code in a realm with an `Error` of its own, in which the errors that Node.js
 * itself throws are no instance of it.
 */
export function isError(value: unknown): value is Error {
  return value instanceof Error || types.isNativeError(value);
}

/**
 * What went wrong, in words: of a system error what its errno means, without the call and the path that its message has as well; of any other
 * error its message.
 */
export function errorReason(error: unknown): string {
  if (!isError(error)) return String(error);
  if (error instanceof MapramError) return error.message;
  const { code } = error as NodeJS.ErrnoException;
  if (code === undefined) return error.message;
  // Node's own messages begin with the code already.
  return systemReason(code) ?? (error.message.startsWith(code) ? error.message : `${code}: ${error.message}`);
}

/** Where libuv, from which Node.js has its texts, has none, or one that is about sockets or its own calls. */
const SYSTEM_REASONS: Readonly<Record<string, string>> = {
  EBUSY: 'it is in use',
  EDQUOT: 'disk quota exceeded',
  EISDIR: 'it is a directory',
  ELOOP: 'too many symbolic links, or one where none may be',
  ENFILE: 'the system has too many files open',
  ENOTDIR: 'a part of its path is not a directory',
  ENOTSUP: 'operation not supported',
  EOPNOTSUPP: 'operation not supported',
  ESTALE: 'the file server has no such file any more',
  ETXTBSY: 'the program is being run or written',
};

/** What an errno means. */
function systemReason(code: string): string | undefined {
  const own = SYSTEM_REASONS[code];
  if (own !== undefined || !/^E[A-Z0-9]+$/.test(code)) return own;
  for (const [name, text] of getSystemErrorMap().values()) if (name === code) return text;
  return undefined;
}
