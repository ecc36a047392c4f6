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
