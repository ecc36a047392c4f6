import { MapramError } from '../errors.js';

/** The `class` of an error on the wire. */
export type QmpErrorClass =
  | 'GenericError'
  | 'CommandNotFound'
  | 'DeviceNotActive'
  | 'DeviceNotFound'
  | 'KVMMissingCap';

/** A QMP server answered a command with an error. */
export class QmpError extends MapramError {
  override readonly name = 'QmpError';

  constructor(
    readonly command: string,
    readonly errorClass: QmpErrorClass,
    /** The text exactly as the server sent it. */
    readonly description: string,
  ) {
    super('QMP', `QEMU refused ${command}: ${description}`);
  }
}
