import assert from 'node:assert/strict';
import { MapramError, type MapramErrorCode } from '../../src/errors.js';

/**
 * For `assert.rejects` and `assert.throws`: an error of mapram's, told in one line.
 *
 * @param message the whole of it, or what it matches
 */
export function failsWith(code: MapramErrorCode, message: string | RegExp = /./) {
  return (error: unknown) => {
    assert.ok(error instanceof MapramError, String(error));
    assert.equal(error.code, code, error.message);
    if (typeof message === 'string') assert.equal(error.message, message);
    else assert.match(error.message, message);
    assert.doesNotMatch(error.message, /\n/);
    return true;
  };
}
