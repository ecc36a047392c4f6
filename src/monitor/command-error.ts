import { MapramError } from '../errors.js';
import type { QmpErrorClass } from '../qmp/qmp-error.js';

/** The answer to a command that cannot be carried out: class and text as they go over the wire. */
export class CommandError extends MapramError {
  override readonly name = 'CommandError';

  constructor(
    message: string,
    readonly errorClass: QmpErrorClass = 'GenericError',
  ) {
    super('QMP', message);
  }
}
