/** The frame of every public operation: its errors, its cancellation, and the caller's own code that it calls. */
import { defined } from '../../defined.js';
import { isError, MapramError } from '../../errors.js';
import type { OperationOptions } from '../../progress.js';
import { withFileErrors } from './file-errors.js';

/** Through these a caller takes part in an operation. */
export interface Participation extends OperationOptions {
  readonly onWarning?: ((message: string) => void) | undefined;
}

/**
 * Runs `work` with options whose callbacks may throw: the operation is then cancelled, puts everything back, and rejects with what the
 * callback threw. Without this an error thrown from a timer would end the process.
 *
 * @param doing what the user asked for, with the file in it: `saving to vm.mapram`
 * @throws MapramError `CANCELLED` when `signal` has aborted, with the signal's reason as `cause`; otherwise as `withFileErrors`
 */
export async function runOperation<O extends Participation, R>(
  doing: string,
  path: string,
  options: O,
  work: (options: O) => Promise<R>,
): Promise<R> {
  const callbacks = new Callbacks(doing);
  const { signal, onProgress, onWarning } = options;
  const guarded = {
    ...options,
    signal: signal === undefined ? callbacks.signal : AbortSignal.any([signal, callbacks.signal]),
    ...defined({ onProgress: callbacks.guard(onProgress), onWarning: callbacks.guard(onWarning) }),
  };
  try {
    const result = await withFileErrors(doing, path, () => work(guarded));
    await callbacks.rethrow(result);
    return result;
  } catch (error) {
    await callbacks.rethrow();
    if (signal?.aborted && isCancellation(error, signal)) throw cancelled(doing, path, error, signal.reason);
    throw error;
  } finally {
    callbacks.ended = true;
  }
}

class Callbacks {
  /** What they throw from now on can reject nothing any more. */
  ended = false;
  readonly #doing: string;
  readonly #abort = new AbortController();
  #thrown: { readonly error: unknown } | undefined;

  constructor(doing: string) {
    this.#doing = doing;
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  guard<A>(callback: ((argument: A) => unknown) | undefined): ((argument: A) => void) | undefined {
    if (callback === undefined) return undefined;
    return (argument) => {
      if (this.#thrown !== undefined) return;
      try {
        // An async callback fails later.
        Promise.resolve(callback(argument)).catch((error) => this.#fail(error));
      } catch (error) {
        this.#fail(error);
      }
    };
  }

  #fail(error: unknown): void {
    if (this.ended) {
      process.emitWarning(isError(error) ? error : String(error), { detail: `a callback of ${this.#doing}` });
      return;
    }
    this.#thrown ??= { error };
    this.#abort.abort(new MapramError('CANCELLED', `${this.#doing}: a callback failed`, { cause: error }));
  }

  /** @param result what the caller will not get, and is disposed of */
  async rethrow(result?: unknown): Promise<void> {
    if (this.#thrown === undefined) return;
    if (typeof result === 'object' && result !== null && Symbol.asyncDispose in result) {
      await (result as AsyncDisposable)[Symbol.asyncDispose]();
    }
    throw this.#thrown.error;
  }
}

/** Whether an operation failed because it was told to end, in any of the ways in which that shows. */
function isCancellation(error: unknown, { reason }: AbortSignal): boolean {
  if (error === reason || (error instanceof MapramError && error.code === 'CANCELLED')) return true;
  return (
    isError(error) && (error.name === 'AbortError' || error.name === 'TimeoutError' || error.cause === reason)
  );
}

function cancelled(doing: string, path: string, error: unknown, reason: unknown): MapramError {
  if (reason instanceof MapramError && reason.code === 'CANCELLED') return reason;
  const message = error instanceof MapramError ? error.message : `${doing}: cancelled`;
  return new MapramError('CANCELLED', message, { path, cause: reason });
}
