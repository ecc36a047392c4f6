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

test('errorReason names the errno of a system error and the message of others', () => {
  assert.equal(
    errorReason(Object.assign(new Error('no space left'), { code: 'ENOSPC' })),
    'ENOSPC: no space left',
  );
  const own = Object.assign(new Error('ENOENT: no such file'), { code: 'ENOENT' });
  assert.equal(errorReason(own), 'ENOENT: no such file');
  assert.equal(errorReason(new MapramError('IO', 'sentence')), 'sentence');
  assert.equal(errorReason(7), '7');
});

test('errors of another realm are errors, as Jest has them (B9)', () => {
  const foreign = runInNewContext("Object.assign(new Error('ENOENT: none'), { code: 'ENOENT' })");
  assert.equal(foreign instanceof Error, false);
  assert.equal(isError(foreign), true);
  assert.equal(hasErrno(foreign, 'ENOENT'), true);
  assert.equal(errorReason(foreign), 'ENOENT: none');
});
