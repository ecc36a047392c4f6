import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runInNewContext } from 'node:vm';
import { errorReason, isError, MapramError } from '../src/errors.js';
import { hasErrno } from '../src/io/system-error.js';

test('a MapramError carries its code, path, offset and cause', () => {
  const cause = new Error('below');
  const error = new MapramError('IO', 'reading x: EIO', { path: 'x', offset: 4096, cause });
  assert.deepEqual(
    { code: error.code, path: error.path, offset: error.offset, cause: error.cause },
    { code: 'IO', path: 'x', offset: 4096, cause },
  );
});

test('errorReason says what the errno of a system error means, without call and path, and gives the message of others', () => {
  const failed = (code: string) => errorReason(Object.assign(new Error(`${code}: text, open 'x'`), { code }));
  assert.equal(failed('ENOSPC'), 'no space left on device');
  assert.equal(failed('ENOENT'), 'no such file or directory');
  assert.equal(failed('EISDIR'), 'it is a directory');
  assert.equal(failed('EDQUOT'), 'disk quota exceeded');
  assert.equal(failed('ENOSUCHERRNO'), "ENOSUCHERRNO: text, open 'x'");
  assert.equal(errorReason(Object.assign(new Error('not valid'), { code: 'ERR_X' })), 'ERR_X: not valid');
  assert.equal(errorReason(new Error('plain')), 'plain');
  assert.equal(errorReason(new MapramError('IO', 'sentence')), 'sentence');
  assert.equal(errorReason(7), '7');
});

test('errors of another realm are errors, as Jest has them (B9)', () => {
  const foreign = runInNewContext("Object.assign(new Error('ENOENT: none'), { code: 'ENOENT' })");
  assert.equal(foreign instanceof Error, false);
  assert.equal(isError(foreign), true);
  assert.equal(hasErrno(foreign, 'ENOENT'), true);
  assert.equal(errorReason(foreign), 'no such file or directory');
});
