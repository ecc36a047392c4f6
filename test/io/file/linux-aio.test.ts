/** Writes that are under way while the thread goes on. */

import assert from 'node:assert/strict';
import { randomFillSync } from 'node:crypto';
import { closeSync, constants, openSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { type Fault, installFaults } from '../../../src/io/faults.js';
import { probeDirectIo } from '../../../src/io/file/direct-io-probe.js';
import { O_DIRECT } from '../../../src/io/file/direct-io-support.js';
import { FileIoError } from '../../../src/io/file/file-io-error.js';
import { IoQueue } from '../../../src/io/file/linux-aio.js';
import { alignedBuffer } from '../../../src/io/memory/aligned-buffer.js';
import { temporaryFolder } from '../../support/temporary-folder.js';

const folder = temporaryFolder('aio');
const skip = probeDirectIo(folder).supported ? false : 'no O_DIRECT here';
const PIECE = 64 * 1024;
const PIECES = 24;
const memory = randomFillSync(alignedBuffer(PIECE * PIECES));
const piece = (index: number) => memory.subarray(index * PIECE, (index + 1) * PIECE);

/** Writes all pieces with these calls failing; what went wrong, in order, and what the file then holds. */
function writeAll({ direct = true, faults = [] }: { direct?: boolean; faults?: Fault[] } = {}) {
  const file = path.join(folder, 'file');
  const fd = openSync(
    file,
    constants.O_RDWR | constants.O_CREAT | constants.O_TRUNC | (direct ? O_DIRECT : 0),
  );
  const queue = IoQueue.open(3);
  assert.ok(queue, 'there is no queue');
  const problems: unknown[] = [];
  const attempt = (work: () => void) => {
    try {
      work();
    } catch (error) {
      problems.push(error);
    }
  };
  try {
    using _ = installFaults(faults);
    for (let index = 0; index < PIECES; index++) attempt(() => queue.write(fd, piece(index), index * PIECE));
    attempt(() => queue.drain());
    attempt(() => queue.drain());
  } finally {
    queue.close();
    closeSync(fd);
  }
  return { problems, bytes: readFileSync(file) };
}

describe('a queue of writes', { skip: process.platform === 'linux' ? skip : 'only on Linux' }, () => {
  for (const direct of [true, false]) {
    test(`more than it holds at once, ${direct ? 'direct' : 'buffered'}`, () => {
      const { problems, bytes } = writeAll({ direct });
      assert.deepEqual(problems, []);
      assert.deepEqual(bytes, memory);
    });
  }

  test('short, repeated and late writes are made whole', () => {
    const faults: Fault[] = [
      { call: 'write', nth: 2, maximumBytes: 4096 },
      { call: 'write', nth: 5, errno: 'EAGAIN' },
      { call: 'write', nth: 7, errno: 'EINTR' },
      { call: 'write', nth: 9, delayMs: 20 },
    ];
    const { problems, bytes } = writeAll({ faults });
    assert.deepEqual(problems, []);
    assert.deepEqual(bytes, memory);
  });

  test('one that fails tells where, and the others are made', () => {
    const { problems, bytes } = writeAll({ faults: [{ call: 'write', nth: 6, errno: 'ENOSPC' }] });
    assert.equal(problems.length, 1);
    const [problem] = problems;
    assert.ok(problem instanceof FileIoError, String(problem));
    assert.equal(problem.offset, 5 * PIECE);
    assert.equal((problem.cause as NodeJS.ErrnoException).code, 'ENOSPC');
    assert.deepEqual(bytes.subarray(0, 5 * PIECE), memory.subarray(0, 5 * PIECE));
    assert.deepEqual(bytes.subarray(6 * PIECE), memory.subarray(6 * PIECE));
  });

  test('what the kernel itself refuses is told, too', () => {
    const file = path.join(folder, 'refused');
    const fd = openSync(file, constants.O_RDWR | constants.O_CREAT | O_DIRECT);
    const queue = IoQueue.open(2);
    assert.ok(queue, 'there is no queue');
    try {
      for (const bad of [
        { fd: 1 << 20, at: 4096, code: 'EBADF' },
        { fd, at: 4096 + 100, code: 'EINVAL' },
      ]) {
        assert.throws(
          () => {
            queue.write(bad.fd, piece(0), bad.at);
            queue.drain();
          },
          (error) =>
            error instanceof FileIoError &&
            error.offset === bad.at &&
            (error.cause as NodeJS.ErrnoException).code === bad.code,
        );
      }
      queue.write(fd, piece(1), 0);
      queue.drain();
    } finally {
      queue.close();
      closeSync(fd);
    }
    assert.deepEqual(readFileSync(file), Buffer.from(piece(1)));
  });

  test('reads: whole, short and late ones, and one at the end of the file', () => {
    const file = path.join(folder, 'read');
    const ODD_END = 5 * PIECE + 700;
    writeFileSync(file, memory.subarray(0, ODD_END));
    const fd = openSync(file, constants.O_RDONLY | O_DIRECT);
    const into = alignedBuffer(PIECE * 6);
    const queue = IoQueue.open(3);
    assert.ok(queue, 'there is no queue');
    try {
      using _ = installFaults([
        { call: 'read', nth: 1, maximumBytes: 4096 },
        { call: 'read', nth: 2, errno: 'EAGAIN' },
        { call: 'read', nth: 4, delayMs: 20 },
      ]);
      for (let index = 0; index < 5; index++)
        queue.read(fd, into.subarray(index * PIECE, (index + 1) * PIECE), index * PIECE);
      queue.drain();
      assert.deepEqual(into.subarray(0, 5 * PIECE), memory.subarray(0, 5 * PIECE));
      queue.read(fd, into.subarray(5 * PIECE), 5 * PIECE);
      assert.throws(
        () => queue.drain(),
        (error) => error instanceof FileIoError && error.truncated && error.offset === ODD_END,
      );
      queue.read(fd, into.subarray(5 * PIECE), 8 * PIECE);
      assert.throws(
        () => queue.drain(),
        (error) => error instanceof FileIoError && error.truncated && error.offset === ODD_END,
      );
    } finally {
      queue.close();
      closeSync(fd);
    }
  });
});
