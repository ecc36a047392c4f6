import { MapramError } from '../errors.js';

/**
 * A value, option or request that QEMU would refuse.
 *
 * `message` is the text QEMU answers (class `GenericError` on the wire), so that a client which compares texts
 * sees no difference.
 */
export class OptionError extends MapramError {
  override readonly name = 'OptionError';

  constructor(message: string) {
    super('USAGE', message);
  }
}
