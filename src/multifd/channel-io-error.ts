import { QueuedIoError } from '../io/linux-aio.js';

/** A failed transfer between memory and the image, with the place in the image. */
export class ChannelIoError extends Error {
  constructor(
    readonly offset: number,
    override readonly cause: unknown,
    /** The image ended too early: a fault of the file, not of the system. */
    readonly truncated = false,
  ) {
    super(cause instanceof Error ? cause.message : String(cause));
  }
}

/** @param offset where it was tried, if the error is not of something that was begun earlier */
export function channelIoError(error: unknown, offset = 0): ChannelIoError {
  if (error instanceof ChannelIoError) return error;
  if (!(error instanceof QueuedIoError)) return new ChannelIoError(offset, error);
  return error.truncated ? endOfImage(error.position) : new ChannelIoError(error.position, error.cause);
}

export function endOfImage(offset: number): ChannelIoError {
  return new ChannelIoError(offset, `the file ends at ${offset}, inside a page area`, true);
}
