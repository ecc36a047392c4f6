import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  closeSync,
  constants,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import type { MapramError } from '../../src/errors.js';
import { installFaults } from '../../src/io/faults.js';
import { probeDirectIo } from '../../src/io/file/direct-io-probe.js';
import { openDirect } from '../../src/io/file/open-direct.js';
import { alignedBuffer } from '../../src/io/memory/aligned-buffer.js';
import { platformHasDirectIo } from '../../src/platform.js';
import { openFlags } from '../channels/fixtures.js';
import { failsWith } from '../support/fails-with.js';
import { temporaryFolder } from '../support/temporary-folder.js';

let directory = '';
beforeEach(() => {
  directory = temporaryFolder('test');
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

test('a platform has direct I/O when its constants name the flag', () => {
  assert.equal(platformHasDirectIo({ O_DIRECT: 0o40000 }), true);
  assert.equal(platformHasDirectIo({}), false);
  assert.equal(platformHasDirectIo(), process.platform === 'linux');
});

describe('probeDirectIo', () => {
  test('asks the kernel about a directory and leaves nothing there', () => {
    const probe = probeDirectIo(directory);
    assert.equal(probe.supported, true);
    assert.ok(
      probe.offsetAlignment >= 1 && probe.offsetAlignment <= 4096,
      `offset alignment: ${probe.offsetAlignment}`,
    );
    assert.ok(
      probe.memoryAlignment >= 1 && probe.memoryAlignment <= 4096,
      `memory alignment: ${probe.memoryAlignment}`,
    );
    assert.deepEqual(readdirSync(directory), []);
    assert.deepEqual(probeDirectIo(path.join(directory, 'not-there-yet')), probe);
  });

  test('asks about an existing file without changing it', () => {
    const file = path.join(directory, 'file');
    writeFileSync(file, 'x'.repeat(5000));
    assert.equal(probeDirectIo(file).supported, true);
    assert.equal(readFileSync(file, 'latin1'), 'x'.repeat(5000));
  });

  test('what it says about a directory is what writes do', () => {
    const { memoryAlignment, offsetAlignment } = probeDirectIo(directory);
    const { fd, direct } = openDirect(path.join(directory, 'f'), {
      access: 'write',
      mode: 'on',
      create: 'exclusive',
    });
    try {
      assert.equal(direct, true);
      const buffer = alignedBuffer(2 * memoryAlignment + 16 * offsetAlignment);
      const write = (start: number, length: number, position: number) =>
        writeSync(fd, buffer, start, length, position);
      assert.equal(write(memoryAlignment, offsetAlignment, 3 * offsetAlignment), offsetAlignment);
      if (offsetAlignment > 1) {
        assert.throws(() => write(0, offsetAlignment / 2, 0), { code: 'EINVAL' });
        assert.throws(() => write(0, offsetAlignment, offsetAlignment / 2), { code: 'EINVAL' });
      }
      if (memoryAlignment > 4) {
        assert.throws(() => write(memoryAlignment / 2, 16 * offsetAlignment, 0), { code: 'EINVAL' });
      }
    } finally {
      closeSync(fd);
    }
  });

  test('tries for itself on tmpfs, which does not say', { skip: !existsSync('/dev/shm') }, () => {
    const shared = mkdtempSync('/dev/shm/mapram-test-');
    try {
      const probe = probeDirectIo(shared);
      assert.equal(probe.how, 'probe');
      if (probe.supported) assert.equal(probe.offsetAlignment, 1);
      else assert.match(probe.reason ?? '', /does not support O_DIRECT/);
      assert.deepEqual(readdirSync(shared), []);
    } finally {
      rmSync(shared, { recursive: true });
    }
  });

  test('names the reason where it is refused', {
    skip: process.getuid?.() !== 0 && 'needs root for a ramfs',
  }, (t) => {
    if (spawnSync('mount', ['-t', 'ramfs', 'mapram-test', directory]).status !== 0) {
      t.skip('mounting is not allowed here');
      return;
    }
    try {
      const file = path.join(directory, 'f');
      const probe = probeDirectIo(directory);
      assert.equal(probe.supported, false);
      assert.match(probe.reason ?? '', /does not support O_DIRECT/);
      assert.throws(
        () => openDirect(file, { access: 'write', mode: 'on', create: 'exclusive' }),
        (error: MapramError) => error.code === 'NO_DIRECT_IO' && error.path === file,
      );
      const opened = openDirect(file, { access: 'write', mode: 'auto', create: 'if-missing' });
      assert.equal(opened.direct, false);
      assert.match(opened.reason ?? '', /does not support O_DIRECT/);
      closeSync(opened.fd);
    } finally {
      spawnSync('umount', [directory]);
    }
  });

  test('a missing directory is an error, not an answer', () => {
    assert.throws(() => probeDirectIo(path.join(directory, 'no', 'file')), { code: 'ENOENT' });
  });
});

describe('openDirect', () => {
  const flagsOf = (fd: number) => openFlags(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'));

  test('auto and on give O_DIRECT, off does not', () => {
    for (const mode of ['auto', 'on', 'off'] as const) {
      const file = path.join(directory, mode);
      const { fd, direct, reason } = openDirect(file, { access: 'read-write', mode, create: 'exclusive' });
      assert.equal(direct, mode !== 'off');
      assert.equal(reason, undefined);
      assert.equal((flagsOf(fd) & constants.O_DIRECT) !== 0, direct);
      assert.equal(flagsOf(fd) & 0o2000000, 0o2000000, 'close-on-exec');
      assert.equal(statSync(file).mode & 0o777, 0o600);
      closeSync(fd);
    }
  });

  test('auto falls back on a platform without O_DIRECT, on refuses', () => {
    const file = path.join(directory, 'f');
    const { fd, direct, reason } = openDirect(file, {
      access: 'write',
      mode: 'auto',
      create: 'exclusive',
      platform: {},
    });
    closeSync(fd);
    assert.equal(direct, false);
    assert.equal(reason, 'this platform has no O_DIRECT');
    assert.throws(
      () => openDirect(file, { access: 'read', mode: 'on', platform: {} }),
      failsWith('NO_DIRECT_IO'),
    );
  });

  test('auto falls back when open says EINVAL', () => {
    using _ = installFaults([{ call: 'open', nth: 1, errno: 'EINVAL' }]);
    const { fd, direct, reason } = openDirect(path.join(directory, 'f'), {
      access: 'write',
      mode: 'auto',
      create: 'exclusive',
    });
    closeSync(fd);
    assert.equal(direct, false);
    assert.equal(reason, 'the file system does not support O_DIRECT');
  });

  test('existing files, missing files and symbolic links', () => {
    const file = path.join(directory, 'f');
    writeFileSync(file, '');
    const link = path.join(directory, 'link');
    symlinkSync(file, link);
    assert.throws(
      () => openDirect(file, { access: 'write', mode: 'on', create: 'exclusive' }),
      failsWith('EXISTS'),
    );
    assert.throws(
      () => openDirect(link, { access: 'write', mode: 'on', create: 'if-missing' }),
      /symbolic link/,
    );
    assert.throws(
      () => openDirect(path.join(directory, 'no'), { access: 'read', mode: 'auto' }),
      /no such file/,
    );
  });
});
