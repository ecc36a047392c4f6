import assert from 'node:assert/strict';
import { closeSync, openSync, readFileSync, rmSync, statSync, writeFileSync, writeSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { admit, installFaults } from '../../src/io/faults.js';
import { tryLock } from '../../src/io/file/file-lock.js';
import { linkFile, renameFile, unlinkFile } from '../../src/io/file/file-names.js';
import {
  allocatedBytes,
  allocateRange,
  freeSpace,
  punchHole,
  truncateFile,
} from '../../src/io/file/file-space.js';
import { syncDirectoryOf, syncFileData } from '../../src/io/file/file-sync.js';
import { closeFile, openFile, reopenFile } from '../../src/io/file/open-file.js';
import {
  cachedBytes,
  dropCache,
  finishWriteBack,
  residentBytes,
  startWriteBack,
} from '../../src/io/file/page-cache.js';
import { readFully, writeFully } from '../../src/io/file/positional-io.js';
import { temporaryFolder } from '../support/temporary-folder.js';

let directory = '';
let file = '';
let fd = -1;
beforeEach(() => {
  directory = temporaryFolder('test');
  file = path.join(directory, 'file');
  fd = openSync(file, 'w+');
});
afterEach(() => {
  closeSync(fd);
  rmSync(directory, { recursive: true, force: true });
});

describe('reads and writes', () => {
  test('go on after short ones, EINTR and EAGAIN', () => {
    using faults = installFaults([
      { call: 'write', nth: 1, times: 3, maximumBytes: 100 },
      { call: 'write', nth: 4, errno: 'EINTR' },
      { call: 'write', nth: 5, errno: 'EAGAIN' },
      { call: 'read', nth: 2, times: 2, maximumBytes: 1 },
      { call: 'read', nth: 1, errno: 'EINTR' },
    ]);
    const data = Buffer.from(Array.from({ length: 1000 }, (_, index) => index % 251));
    writeFully(fd, data, 7);
    const back = Buffer.alloc(1000);
    assert.equal(readFully(fd, back, 7), 1000);
    assert.ok(back.equals(data), 'other bytes were read than written');
    assert.equal(faults.counts().write, 6);
    assert.ok(faults.counts().read >= 4, `${faults.counts().read} reads were interrupted`);
  });

  test('a read stops at the end of the file', () => {
    writeFully(fd, Buffer.alloc(10, 1), 0);
    assert.equal(readFully(fd, Buffer.alloc(20), 4), 6);
    assert.equal(readFully(fd, Buffer.alloc(20), 40), 0);
  });

  test('an error comes through with its name', () => {
    using _ = installFaults([{ call: 'write', nth: 1, errno: 'ENOSPC' }]);
    assert.throws(() => writeFully(fd, Buffer.alloc(1), 0), { code: 'ENOSPC', syscall: 'write' });
  });
});

describe('faults', () => {
  test('are counted over all threads, by kind', async () => {
    using faults = installFaults([{ call: 'sync', nth: 2, errno: 'EIO' }]);
    admit('sync');
    const script = `
      const { workerData, parentPort } = require('node:worker_threads');
      import(workerData).then(({ admit }) => {
        try { admit('sync'); parentPort.postMessage('passed'); } catch (error) { parentPort.postMessage(error.code); }
      });
    `;
    const worker = new Worker(script, {
      eval: true,
      workerData: import.meta.resolve('../../src/io/faults.js'),
    });
    const answer = await new Promise((resolve) => worker.once('message', resolve));
    await new Promise((resolve) => worker.once('exit', resolve));
    assert.equal(answer, 'EIO');
    assert.equal(faults.counts().sync, 2);
    assert.equal(faults.counts().open, 0);
    admit('sync');
  });

  test('end with their owner', async () => {
    {
      using _ = installFaults([{ call: 'rename', nth: 1, times: Number.POSITIVE_INFINITY, errno: 'EIO' }]);
      assert.throws(() => renameFile(file, `${file}2`), { code: 'EIO' });
    }
    renameFile(file, `${file}2`);
    assert.ok(statSync(`${file}2`), 'the file is missing');
  });

  test('reach every kind of call', async () => {
    using faults = installFaults([]);
    const other = openFile(file, 0);
    closeFile(other);
    truncateFile(fd, 8192);
    allocateRange(fd, 0, 8192);
    punchHole(fd, 0, 4096);
    await syncFileData(fd);
    await syncDirectoryOf(file);
    linkFile(file, `${file}3`);
    unlinkFile(`${file}3`);
    const { open, close, truncate, allocate, punch, sync, link, unlink } = faults.counts();
    assert.deepEqual([open, close, truncate, allocate, punch, sync, link, unlink], [2, 2, 1, 1, 1, 2, 1, 1]);
  });
});

test('space: reserving does not grow the file, punching gives back', () => {
  truncateFile(fd, 4096);
  assert.equal(allocateRange(fd, 0, 1024 ** 2), true);
  assert.equal(statSync(file).size, 4096);
  assert.ok(allocatedBytes(fd) >= 1024 ** 2, `${allocatedBytes(fd)} bytes are allocated`);
  truncateFile(fd, 1024 ** 2);
  assert.equal(punchHole(fd, 0, 1024 ** 2), true);
  assert.equal(allocatedBytes(fd), 0);
  assert.ok(freeSpace(directory) > 0, 'no free space');
});

test('page cache: filled by buffered writes, emptied by dropping what was written back', () => {
  const size = 1024 ** 2;
  writeSync(fd, Buffer.alloc(size, 1));
  assert.equal(cachedBytes(fd), size);
  assert.equal(residentBytes(fd), size);
  assert.equal(startWriteBack(fd, 0, size), true);
  assert.equal(finishWriteBack(fd, 0, size), true);
  assert.equal(dropCache(fd), true);
  assert.equal(cachedBytes(fd), 0);
  assert.equal(residentBytes(fd), 0);
});

test('locks belong to an open description', () => {
  const other = reopenFile(fd, 0);
  try {
    const first = reopenFile(fd, 0);
    try {
      assert.equal(tryLock(first, 'exclusive'), true);
      assert.equal(tryLock(other, 'shared'), false);
    } finally {
      closeSync(first);
    }
    assert.equal(tryLock(fd, 'shared'), true);
    assert.equal(tryLock(other, 'shared'), true);
    assert.equal(tryLock(other, 'exclusive'), false);
  } finally {
    closeSync(other);
  }
  assert.equal(tryLock(fd, 'exclusive'), true);
});

test('a link does not replace, a rename does', () => {
  writeFileSync(`${file}2`, 'two');
  assert.throws(() => linkFile(file, `${file}2`), { code: 'EEXIST' });
  renameFile(`${file}2`, file);
  assert.equal(readFileSync(file, 'utf8'), 'two');
});
