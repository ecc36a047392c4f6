import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MapramError } from '../../../src/errors.js';
import type { DirectIoProbe } from '../../../src/io/file/direct-io-probe.js';
import { chooseDirectIo } from '../../../src/snapshot/files/direct-io-choice.js';

const takes =
  (alignment: number): (() => DirectIoProbe) =>
  () => ({
    supported: true,
    memoryAlignment: alignment,
    offsetAlignment: alignment,
    how: 'statx',
  });
const refuses = (): DirectIoProbe => ({
  supported: false,
  memoryAlignment: 0,
  offsetAlignment: 0,
  how: 'probe',
  reason: 'the file system does not support O_DIRECT',
});

test('auto uses direct I/O where it can and warns once where it cannot', () => {
  assert.equal(chooseDirectIo('f', 'auto', takes(512)).directIo, true);
  const buffered = chooseDirectIo('f', 'auto', refuses);
  assert.equal(buffered.directIo, false);
  assert.equal(buffered.reason, 'the file system does not support O_DIRECT');
  assert.match(buffered.warning ?? '', /pages go through the page cache/);
});

test('on fails where it cannot; off does not even ask', () => {
  assert.equal(chooseDirectIo('f', 'on', takes(4096)).directIo, true);
  assert.throws(
    () => chooseDirectIo('f', 'on', refuses),
    (error) => error instanceof MapramError && error.code === 'NO_DIRECT_IO' && error.path === 'f',
  );
  const off = chooseDirectIo('f', 'off', () => assert.fail('asked'));
  assert.deepEqual(off, { directIo: false, reason: 'switched off' });
});

test('a device with blocks larger than a guest page is refused', () => {
  assert.throws(() => chooseDirectIo('f', 'on', takes(65536)), /in units of 65536 bytes/);
});
