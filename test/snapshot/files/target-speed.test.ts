import assert from 'node:assert/strict';
import { fstatSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { installFaults } from '../../../src/io/faults.js';
import { probeDirectIo } from '../../../src/io/file/direct-io-probe.js';
import { channelsFor } from '../../../src/snapshot/files/channel-numbers.js';
import { chooseDirectIo, unlessSlow } from '../../../src/snapshot/files/direct-io-choice.js';
import { TargetFile } from '../../../src/snapshot/files/target-file.js';
import { tryDisk, whyDirectIsSlow } from '../../../src/snapshot/files/target-speed.js';
import { temporaryFolder } from '../../support/temporary-folder.js';

const folder = temporaryFolder('speed');
const skip = probeDirectIo(folder).supported ? false : 'no O_DIRECT here';
const never = new AbortController().signal;

test('direct writes that take long are noticed, and the file is empty again', { skip }, async () => {
  using target = TargetFile.create(path.join(folder, 'slow'));
  // Three direct writes of 1 MiB; the buffered one after them is as fast as ever.
  using _ = installFaults([{ call: 'write', nth: 1, times: 3, delayMs: 200 }]);
  const reason = await whyDirectIsSlow(target.fd);
  assert.match(reason ?? '', /^direct I\/O writes [\d.]+ MiB\/s here, the page cache [\d.]+ [MG]iB\/s$/);
  const { size, blocks } = fstatSync(target.fd);
  assert.deepEqual([size, blocks], [0, 0]);
});

test('a disk that is slow either way keeps direct I/O', { skip }, async () => {
  using target = TargetFile.create(path.join(folder, 'slow-both'));
  // 8 MiB in one delayed write count as eight times as fast, so the sync is held up, too.
  using _ = installFaults([
    { call: 'write', nth: 1, times: Number.POSITIVE_INFINITY, delayMs: 100 },
    { call: 'sync', nth: 1, delayMs: 600 },
  ]);
  assert.equal(await whyDirectIsSlow(target.fd), undefined);
});

test('auto falls back with one warning; the reason is kept', async () => {
  const direct = { directIo: true, reason: 'the file system supports O_DIRECT' };
  assert.deepEqual(await unlessSlow('f', direct, -1, async () => undefined), direct);
  const slow = await unlessSlow('f', direct, -1, async () => 'it crawls');
  assert.deepEqual([slow.directIo, slow.dropBehind, slow.reason], [false, true, 'it crawls']);
  assert.match(slow.warning ?? '', /^f: it crawls, so pages go through the page cache/);
  const off = chooseDirectIo('f', 'off');
  assert.equal(await unlessSlow('f', off, -1, () => assert.fail('asked')), off);
});

for (const direct of [true, false]) {
  test(`a disk is tried, ${direct ? 'direct' : 'buffered'}`, {
    skip: direct && skip,
  }, async () => {
    using target = TargetFile.create(path.join(folder, `tune-${direct}`));
    const { writesAtOnce, ioSize, rate, reason } = await tryDisk(target.fd, direct, never);
    assert.ok([1, 2, 4].includes(writesAtOnce), `${writesAtOnce} writes`);
    assert.ok([2 ** 20, 2 ** 22].includes(ioSize), `${ioSize} bytes`);
    assert.ok(rate > 0, `rate: ${rate}`);
    assert.match(reason, /^the disk took [\d.]+ [MG]iB\/s with \d writes? of [14] MiB at once$/);
    assert.equal(fstatSync(target.fd).size, 0);
  });
}

test('a fast disk gets more channels', () => {
  const GIB = 2 ** 30;
  const trial = (writesAtOnce: number, rate: number) => ({ writesAtOnce, rate, ioSize: 2 ** 22, reason: '' });
  assert.deepEqual(
    [1, 2, 4].map((writes) => channelsFor(trial(writes, 9 * GIB), false)),
    [2, 3, 5],
  );
  assert.deepEqual(
    [0.1, 2.9, 3.1, 9, 99].map((rate) => channelsFor(trial(4, rate * GIB), true)),
    [2, 2, 3, 6, 16],
  );
});

test('a trial can be cancelled', async () => {
  using target = TargetFile.create(path.join(folder, 'cancelled'));
  await assert.rejects(tryDisk(target.fd, false, AbortSignal.abort()));
});
