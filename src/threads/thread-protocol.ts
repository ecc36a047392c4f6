/**
 * What a process and its threads say to each other. Each message to a thread is answered by one of its replies, in the same
 * order:
 *
 * ```
 * open   load this script, begin its service     done │ failed
 * call   a request to the service                done, with its result │ failed
 * close  end the service                         done │ failed
 * end    end the thread                          (it exits)
 * ```
 */
import { defined } from '../defined.js';
import { errorReason, isError, MapramError, type MapramErrorCode } from '../errors.js';
import { FileIoError } from '../io/file/file-io-error.js';

/** What a script of threads does for one user. A thread carries out one request at a time. */
export interface ThreadService<Request, Result = void> {
  carryOut(request: Request): Result | Promise<Result>;
  /** Gives back what the requests have left. The thread then serves others. */
  close?(): void | Promise<void>;
}

/** What a script of threads exports as `open`. */
export type OpenService<Request, Result = void> = () => ThreadService<Request, Result>;

export type ToThread =
  | { kind: 'open'; script: string }
  | { kind: 'call'; request: unknown }
  | { kind: 'close' }
  | { kind: 'end' };

export type FromThread = { kind: 'done'; result?: unknown } | { kind: 'failed'; failure: ThreadFailure };

/** An error in a form that survives the way between threads. */
export interface ThreadFailure {
  message: string;
  /** Of a `MapramError`. */
  code?: MapramErrorCode;
  /** The file concerned. */
  path?: string;
  /** Of a system call. */
  errno?: string;
  /** Byte of the file or stream that was concerned. */
  offset?: number;
  /** The file ends too early: a fault of the file, not of the system. */
  truncated?: boolean;
  /** An error that the thread's code does not expect: it serves nobody else. */
  unexpected?: boolean;
}

/** A request that a thread could not carry out, or the end of the thread. */
export class ThreadFailedError extends Error {
  constructor(readonly failure: ThreadFailure) {
    super(failure.message);
  }
}

export function failureOf(error: unknown): ThreadFailure {
  if (error instanceof MapramError) {
    const { code, message, offset, path } = error;
    return {
      code,
      message,
      ...defined({ offset, path }),
    };
  }
  const located = error instanceof FileIoError ? error : undefined;
  const failed = isError(located?.cause) ? located.cause : error;
  const { code: errno } = failed as NodeJS.ErrnoException;
  return {
    message: errorReason(failed),
    ...defined({
      errno,
      offset: located?.offset,
      truncated: located?.truncated,
      unexpected: (errno === undefined && located === undefined) || undefined,
    }),
  };
}
