import assert from 'node:assert/strict';
import { test } from 'node:test';
import { networkFileSystem, networkFileSystemOfType } from '../../../src/io/file/file-system.js';

test('file systems of other hosts are known by their magic numbers', () => {
  assert.equal(networkFileSystemOfType(0x6969), 'NFS');
  assert.equal(networkFileSystemOfType(0x65735546), 'FUSE');
  assert.equal(networkFileSystemOfType(0xff534d42), 'CIFS');
  assert.equal(networkFileSystemOfType(0xff534d42 | 0), 'CIFS');
  // ext4, and what is certainly of this host.
  assert.equal(networkFileSystemOfType(0xef53), undefined);
  assert.equal(networkFileSystem('/proc'), undefined);
});
