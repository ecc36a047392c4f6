import assert from 'node:assert/strict';
import { MapramError, type MapramErrorCode } from '../../src/errors.js';

/** For `assert.rejects`: an error of mapram's, told in one line. */
export function failsWith(code: MapramErrorCode, pattern: RegExp) {
  return (error: unknown) => {
    assert.ok(error instanceof MapramError, String(error));
    assert.equal(error.code, code, error.message);
    assert.match(error.message, pattern);
    assert.doesNotMatch(error.message, /\n/);
    return true;
  };
}
