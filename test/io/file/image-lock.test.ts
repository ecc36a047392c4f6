import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isOpenForWriting, parseLocks, processWithOpen } from '../../../src/io/file/image-lock.js';

test('OFD locks of /proc/locks are read, and no others', () => {
  const text = [
    '1: POSIX  ADVISORY  WRITE 812 fe:00:131 0 EOF',
    '2: OFDLCK ADVISORY  READ  -1 fe:00:2171140 101 101',
    '2: -> OFDLCK ADVISORY  WRITE  -1 fe:00:2171140 201 201',
    '3: OFDLCK ADVISORY  READ  -1 00:2a:7 100 EOF',
    '4: FLOCK  ADVISORY  WRITE 1 00:19:3 0 EOF',
  ].join('\n');
  assert.deepEqual(parseLocks(text), [
    { device: 'fe:00', inode: 2171140, first: 101, last: 101 },
    { device: '00:2a', inode: 7, first: 100, last: Number.POSITIVE_INFINITY },
  ]);
});

test('a file that is open is found with its process, and is not written to for that', () => {
  assert.equal(isOpenForWriting(process.execPath), false);
  assert.equal(isOpenForWriting('/nowhere'), false);
  assert.equal(processWithOpen('/nowhere'), undefined);
});
