import assert from 'node:assert/strict';
import { test } from 'node:test';
import { mountOf } from '../../src/doctor/mounts.js';

const TABLE = [
  '27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard',
  '30 25 0:27 / /dev/shm rw - tmpfs tmpfs rw,size=24684096k',
  '31 27 8:1 / /srv/vm\\040images rw shared:5 master:2 - xfs /dev/sdb\\0401 rw',
  '32 27 8:2 / /srv/twice rw - ext4 /dev/sdc rw',
  '33 32 8:3 / /srv/twice rw - nfs4 host:/export rw',
  '',
].join('\n');

test('the innermost and latest mount holds the path', () => {
  const cases: [string, string, string][] = [
    ['/', 'ext4', '/dev/vda'],
    ['/home/x', 'ext4', '/dev/vda'],
    ['/dev/shm', 'tmpfs', 'tmpfs'],
    ['/dev/shm/a/b', 'tmpfs', 'tmpfs'],
    ['/dev/shmem', 'ext4', '/dev/vda'],
    ['/srv/vm images/a', 'xfs', '/dev/sdb 1'],
    ['/srv/twice/a', 'nfs4', 'host:/export'],
  ];
  for (const [path, type, source] of cases) {
    const mount = mountOf(path, TABLE);
    assert.deepEqual([mount?.type, mount?.source], [type, source], path);
  }
  assert.equal(mountOf('/x', ''), undefined);
});
