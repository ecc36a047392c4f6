import { errorReason } from '../../errors.js';

/** A read or write of a file that has failed, with the place in the file. */
export class FileIoError extends Error {
  constructor(
    readonly offset: number,
    override readonly cause: unknown,
    /** The file ends there, within what was to be read: a fault of the file, not of the system. */
    readonly truncated = false,
  ) {
    super(errorReason(cause));
  }

  /** @param offset where it was tried, if the error does not know better */
  static at(offset: number, error: unknown): FileIoError {
    return error instanceof FileIoError ? error : new FileIoError(offset, error);
  }
}
