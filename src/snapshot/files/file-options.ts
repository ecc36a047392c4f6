import type { OperationOptions } from '../../progress.js';

/** What every function that reads a saved VM takes. */
export interface FileOptions extends OperationOptions {
  /**
   * Path of a mapped-ram file or a plain migration stream, bare or in a libvirt image, compressed or not; or `PLACE/NAME[@ID]` in a
   * store.
   */
  readonly file: string;
  /** Where in the file the stream starts; found at the start and after libvirt's header when omitted. */
  readonly offset?: number | undefined;
}
