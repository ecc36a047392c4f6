import assert from 'node:assert/strict';
import {
  closeSync,
  constants,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  truncateSync,
  writeSync,
} from 'node:fs';
import { describe, test } from 'node:test';
import { FileChannels, type ZeroPageDetection } from '../../../src/channels/file/file-channels.js';
import { MapramError } from '../../../src/errors.js';
import { installFaults } from '../../../src/io/faults.js';
import { cachedBytes } from '../../../src/io/file/page-cache.js';
import { failsWith } from '../../support/fails-with.js';
import {
  allocated,
  block,
  bytesOf,
  countBits,
  KIB,
  MIB,
  naiveLoad,
  openFlags,
  PAGE,
  pageOf,
  pokePage,
  Scratch,
} from '../fixtures.js';

const LENGTH = 24 * MIB;
const PAGES = LENGTH / PAGE;

/** Memory with data in every fourth MiB run, scattered single pages, zero pages that are allocated, and holes. */
function fillMemory(fd: number): { data: number; zero: number } {
  let data = 0;
  for (let page = 0; page < PAGES; page++) {
    const mib = Math.floor((page * PAGE) / MIB);
    if (mib % 4 === 3) continue; // hole
    if (mib % 4 === 2) {
      pokePage(fd, page, Buffer.alloc(PAGE));
      continue;
    }
    if (mib % 4 === 1 && page % 5 !== 0) {
      pokePage(fd, page, Buffer.alloc(PAGE));
      continue;
    }
    pokePage(fd, page, pageOf(page));
    data++;
  }
  return { data, zero: PAGES - data };
}

for (const direct of [true, false]) {
  for (const count of [1, 2, 4]) {
    for (const copy of [false, true]) {
      test(`saves and loads: ${count} channels, direct ${direct}, ${copy ? 'copied' : 'mapped'}`, async () => {
        using scratch = new Scratch();
        const fd = scratch.memory(LENGTH);
        const expected = fillMemory(fd);
        const before = allocated(fd);
        const image = scratch.image(MIB + LENGTH);
        const saved = block(fd, LENGTH);
        {
          await using channels = await FileChannels.open({
            path: image,
            access: 'write',
            count,
            direct,
            copy,
            blocks: [saved],
            ioSize: MIB,
            bridgeBytes: 0,
          });
          assert.equal(channels.direct, direct);
          const counts = await channels.transfer();
          assert.deepEqual(counts, {
            bytes: expected.data * PAGE,
            normalPages: expected.data,
            duplicatePages: expected.zero,
            punchedPages: 0,
          });
          const progress = channels.progress();
          assert.equal(progress.length, count);
          assert.equal(
            progress.reduce((sum, { bytes }) => sum + bytes, 0),
            counts.bytes,
          );
          assert.ok(
            progress.every(({ busy }) => !busy),
            'a channel is still busy',
          );
        }
        assert.equal(allocated(fd), before, 'saving must not allocate holes of the memory');
        assert.equal(countBits(saved.bitmap), expected.data);
        assert.ok(
          naiveLoad(image, saved).equals(bytesOf(fd, 0, LENGTH)),
          'an independent loader reads other memory than was saved',
        );

        const target = scratch.memory(LENGTH);
        pokePage(target, PAGES - 1, pageOf(1)); // lies in a hole of the source: must become zero
        pokePage(target, 0, pageOf(2));
        await using loading = await FileChannels.open({
          path: image,
          access: 'read',
          count,
          direct,
          copy,
          blocks: [{ ...saved, memory: { fd: target, offset: 0 } }],
        });
        const counts = await loading.transfer();
        assert.equal(counts.normalPages, expected.data);
        assert.equal(counts.duplicatePages, expected.zero);
        assert.ok(
          bytesOf(target, 0, LENGTH).equals(bytesOf(fd, 0, LENGTH)),
          'the loaded memory is not what was saved',
        );
        assert.ok(allocated(target) <= before, 'zero pages of the target must be holes');
      });
    }
  }
}

describe('zero page detection', () => {
  for (const zeroPageDetection of ['none', 'legacy', 'multifd'] satisfies ZeroPageDetection[]) {
    test(zeroPageDetection, async () => {
      using scratch = new Scratch();
      const fd = scratch.memory(LENGTH);
      const expected = fillMemory(fd);
      const before = allocated(fd);
      const image = scratch.image(0);
      const saved = block(fd, LENGTH);
      await using channels = await FileChannels.open({
        path: image,
        access: 'write',
        count: 2,
        direct: true,
        blocks: [saved],
        zeroPageDetection,
        bridgeBytes: 0,
      });
      const counts = await channels.transfer();
      const normal = zeroPageDetection === 'none' ? PAGES : expected.data;
      assert.equal(counts.normalPages, normal);
      assert.equal(counts.duplicatePages, PAGES - normal);
      assert.equal(countBits(saved.bitmap), normal);
      assert.equal(allocated(fd), before);
      assert.ok(
        naiveLoad(image, saved).equals(bytesOf(fd, 0, LENGTH)),
        'an independent loader reads other memory than was saved',
      );
    });
  }
});

test('later passes send what is selected; a page that became zero loses its bit and its slot', async () => {
  using scratch = new Scratch();
  const fd = scratch.memory(LENGTH);
  const image = scratch.image(MIB + LENGTH);
  for (let page = 0; page < PAGES; page++) pokePage(fd, page, pageOf(page));
  const saved = block(fd, LENGTH);
  await using channels = await FileChannels.open({
    path: image,
    access: 'write',
    count: 3,
    direct: true,
    blocks: [saved],
    ioSize: 256 * KIB,
  });
  await channels.transfer();
  const imageFd = scratch.own(openSync(image, 'r'));
  const full = allocated(imageFd);
  assert.ok(full >= LENGTH, `full: ${full}`);

  pokePage(fd, 7, pageOf(1007));
  pokePage(fd, 9, Buffer.alloc(PAGE));
  pokePage(fd, 4000, Buffer.alloc(PAGE));
  pokePage(fd, 8, pageOf(1008)); // changed, not selected
  const second = await channels.transfer({
    ranges: [
      [
        [7 * PAGE, PAGE],
        [9 * PAGE, PAGE],
        [4000 * PAGE, PAGE],
      ],
    ],
  });
  assert.deepEqual(second, { bytes: PAGE, normalPages: 1, duplicatePages: 2, punchedPages: 2 });
  assert.equal(allocated(imageFd), full - 2 * PAGE);
  assert.equal(countBits(saved.bitmap), PAGES - 2);
  const memory = bytesOf(fd, 0, LENGTH);
  pageOf(8).copy(memory, 8 * PAGE);
  assert.ok(
    naiveLoad(image, saved).equals(memory),
    'an independent loader reads other memory than was saved',
  );

  const dirty = new Uint8Array(saved.bitmap.byteLength);
  dirty[1] = 0b0000_0011; // pages 8 and 9
  pokePage(fd, 9, pageOf(2009));
  const third = await channels.transfer({ ranges: [dirty] });
  assert.deepEqual(third, { bytes: 2 * PAGE, normalPages: 2, duplicatePages: 0, punchedPages: 0 });
  assert.ok(
    naiveLoad(image, saved).equals(bytesOf(fd, 0, LENGTH)),
    'an independent loader reads other memory than was saved',
  );

  const nothing = await channels.transfer({ ranges: [[]] });
  assert.deepEqual(nothing, { bytes: 0, normalPages: 0, duplicatePages: 0, punchedPages: 0 });
});

test('several blocks, one at an offset of its memory file, with tails and other page sizes', async () => {
  using scratch = new Scratch();
  const fd = scratch.memory(LENGTH);
  for (let page = 0; page < PAGES; page += 3) pokePage(fd, page, pageOf(page));
  const other = scratch.memory(PAGE);
  pokePage(other, 0, pageOf(77));
  const image = scratch.image(0);
  const blocks = [
    block(fd, 5 * MIB + 3 * PAGE, { memory: { fd, offset: 2 * MIB + PAGE } }),
    block(other, PAGE, { pagesOffset: 8 * MIB }),
    block(fd, MIB, { pagesOffset: 9 * MIB, pageSize: 64 * KIB }),
  ];
  {
    await using channels = await FileChannels.open({
      path: image,
      access: 'write',
      count: 4,
      direct: true,
      blocks,
      ioSize: 64 * KIB,
    });
    await channels.transfer();
  }
  for (const one of blocks) {
    assert.ok(
      naiveLoad(image, one).equals(bytesOf(one.memory.fd, one.memory.offset, one.usedLength)),
      'an independent loader reads other memory than was saved',
    );
  }
});

test('the descriptors of the channels have O_DIRECT, are closed at the end, and the page cache stays empty', async () => {
  using scratch = new Scratch();
  const fd = scratch.memory(LENGTH);
  fillMemory(fd);
  const image = scratch.image(MIB + LENGTH);
  const flagsOfImageFds = () =>
    readdirSync('/proc/self/fd')
      .filter((name) => {
        try {
          return readlinkSync(`/proc/self/fd/${name}`) === image;
        } catch {
          return false;
        }
      })
      .map((name) => openFlags(readFileSync(`/proc/self/fdinfo/${name}`, 'latin1')));
  const channels = await FileChannels.open({
    path: image,
    access: 'write',
    count: 2,
    direct: true,
    blocks: [block(fd, LENGTH)],
  });
  const flags = flagsOfImageFds();
  assert.equal(flags.length, 2);
  for (const value of flags) {
    assert.equal(value & constants.O_DIRECT, constants.O_DIRECT);
    assert.equal(value & 3, constants.O_WRONLY);
  }
  await channels.transfer();
  await channels.close();
  assert.deepEqual(flagsOfImageFds(), []);
  assert.doesNotMatch(readFileSync('/proc/self/maps', 'latin1'), /mapram-test/);
  const imageFd = scratch.own(openSync(image, 'r'));
  assert.ok(cachedBytes(imageFd) <= LENGTH / 100, `${cachedBytes(imageFd)} bytes are in the page cache`);
});

test('given descriptors are used, and stay open', async () => {
  using scratch = new Scratch();
  const fd = scratch.memory(LENGTH);
  fillMemory(fd);
  const image = scratch.image(0);
  const fds = [1, 2].map(() => scratch.own(openSync(image, constants.O_WRONLY | constants.O_DIRECT)));
  const saved = block(fd, LENGTH);
  const options = { path: 'fdset 1', access: 'write', count: 2, blocks: [saved], fds } as const;
  {
    await using channels = await FileChannels.open({ ...options, direct: true });
    await channels.transfer();
  }
  assert.ok(
    naiveLoad(image, saved).equals(bytesOf(fd, 0, LENGTH)),
    'an independent loader reads other memory than was saved',
  );
  await assert.rejects(FileChannels.open({ ...options, direct: false }), /has O_DIRECT/);
  await assert.rejects(
    FileChannels.open({ ...options, access: 'read', direct: true }),
    /not open for reading/,
  );
});

describe('failures', () => {
  const saveWith = async (scratch: Scratch, more: object = {}) => {
    const fd = scratch.memory(LENGTH);
    fillMemory(fd);
    return FileChannels.open({
      path: scratch.image(MIB + LENGTH),
      access: 'write',
      count: 3,
      direct: true,
      ioSize: 256 * KIB,
      blocks: [block(fd, LENGTH)],
      ...more,
    });
  };

  test('no space: one error with the channel and the file, no further pass', async () => {
    using scratch = new Scratch();
    using _ = installFaults([{ call: 'write', nth: 5, errno: 'ENOSPC' }]);
    await using channels = await saveWith(scratch);
    const check = (error: unknown) => {
      assert.ok(error instanceof MapramError, String(error));
      assert.equal(error.code, 'NO_SPACE');
      assert.equal(error.path, scratch.file('image'));
      assert.equal((error.offset ?? 1) % PAGE, 0);
      assert.match(
        error.message,
        /^writing pages to \S+ on channel \d at offset \d+: no space left on device/,
      );
      return true;
    };
    await assert.rejects(channels.transfer(), check);
    await assert.rejects(channels.transfer(), check);
  });

  test('short writes are completed', async () => {
    using scratch = new Scratch();
    using faults = installFaults([{ call: 'write', nth: 2, times: 20, maximumBytes: 3 * PAGE }]);
    const fd = scratch.memory(LENGTH);
    fillMemory(fd);
    const saved = block(fd, LENGTH);
    const image = scratch.image(0);
    await using channels = await FileChannels.open({
      path: image,
      access: 'write',
      count: 2,
      direct: true,
      blocks: [saved],
    });
    await channels.transfer();
    assert.ok(faults.counts().write > 20, `${faults.counts().write} writes failed`);
    assert.ok(
      naiveLoad(image, saved).equals(bytesOf(fd, 0, LENGTH)),
      'an independent loader reads other memory than was saved',
    );
  });

  test('a thread that dies while starting', async () => {
    using scratch = new Scratch();
    using _ = installFaults([{ call: 'worker', nth: 2, errno: 'EIO' }]);
    await assert.rejects(saveWith(scratch), failsWith('IO'));
    assert.doesNotMatch(readFileSync('/proc/self/maps', 'latin1'), /mapram-test/);
  });

  test('a thread that dies at work ends the transfer, and nothing is left behind', async () => {
    using scratch = new Scratch();
    using _ = installFaults([{ call: 'write', nth: 6, exit: true }]);
    const channels = await saveWith(scratch);
    await assert.rejects(channels.transfer(), (error: MapramError) => {
      assert.equal(error.code, 'IO');
      assert.match(error.message, /on channel \d: its thread ended unexpectedly/);
      return true;
    });
    await channels.close();
    assert.doesNotMatch(readFileSync('/proc/self/maps', 'latin1'), /mapram-test/);
  });

  test('abort, by signal and by call', async () => {
    using scratch = new Scratch();
    using _ = installFaults([{ call: 'write', nth: 1, times: Number.POSITIVE_INFINITY, delayMs: 20 }]);
    const controller = new AbortController();
    await using channels = await saveWith(scratch, { signal: controller.signal });
    const running = channels.transfer();
    controller.abort();
    await assert.rejects(running, failsWith('CANCELLED'));
    const moved = channels.progress().reduce((sum, { normalPages }) => sum + normalPages, 0);
    assert.ok(moved < PAGES / 4, `moved: ${moved}`);
    await assert.rejects(saveWith(scratch, { signal: controller.signal }), failsWith('CANCELLED'));

    const others = await saveWith(scratch);
    const closed = assert.rejects(others.transfer(), failsWith('CANCELLED'));
    await others.close();
    await closed;
    await assert.rejects(others.transfer(), failsWith('USAGE'));
  });

  test('an image that ends inside a page area', async () => {
    using scratch = new Scratch();
    const fd = scratch.memory(LENGTH);
    fillMemory(fd);
    const saved = block(fd, LENGTH);
    const image = scratch.image(0);
    {
      await using channels = await FileChannels.open({
        path: image,
        access: 'write',
        count: 1,
        direct: true,
        blocks: [saved],
      });
      await channels.transfer();
    }
    for (const size of [5 * MIB + PAGE, 5 * MIB + 100]) {
      truncateSync(image, size);
      for (const direct of [true, false]) {
        await using loading = await FileChannels.open({
          path: image,
          access: 'read',
          count: 1,
          direct,
          blocks: [{ ...saved, memory: { fd: scratch.memory(LENGTH), offset: 0 } }],
        });
        await assert.rejects(loading.transfer(), (error: MapramError) => {
          assert.equal(error.code, 'FORMAT');
          assert.equal(error.offset, size);
          return true;
        });
      }
    }
  });

  test('blocks and options that cannot be', async () => {
    using scratch = new Scratch();
    const fd = scratch.memory(LENGTH);
    const good = block(fd, LENGTH);
    const open = (more: object) =>
      FileChannels.open({
        path: scratch.image(0),
        access: 'write',
        count: 1,
        direct: true,
        blocks: [good],
        ...more,
      });
    await assert.rejects(open({ count: 0 }), failsWith('USAGE'));
    await assert.rejects(open({ count: 17 }), failsWith('USAGE'));
    await assert.rejects(open({ blocks: [{ ...good, usedLength: 5000 }] }), failsWith('FORMAT'));
    await assert.rejects(open({ blocks: [{ ...good, pagesOffset: 512 }] }), failsWith('FORMAT'));
    await assert.rejects(open({ blocks: [{ ...good, pageSize: 3000 }] }), failsWith('FORMAT'));
    await assert.rejects(
      open({ blocks: [{ ...good, bitmap: new SharedArrayBuffer(8) }] }),
      failsWith('FORMAT'),
    );
    await assert.rejects(open({ blocks: [block(fd, 2 * LENGTH)] }), /has only 25165824 bytes/);
    await assert.rejects(open({ path: scratch.file('missing') }), /no such file/);
  });

  test('a disk that is really full', {
    skip: process.getuid?.() !== 0 && 'needs root for a small tmpfs',
  }, async () => {
    using scratch = new Scratch();
    const { spawnSync } = await import('node:child_process');
    const mount = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=4m', 'mapram-test-full', scratch.directory]);
    if (mount.status !== 0) return;
    try {
      await using channels = await saveWith(scratch);
      await assert.rejects(channels.transfer(), failsWith('NO_SPACE'));
    } finally {
      spawnSync('umount', [scratch.directory]);
    }
  });
});

test('sparse memory of many chunks stays sparse, and so does the image', async () => {
  using scratch = new Scratch();
  const length = 512 * MIB;
  const fd = scratch.memory(length);
  writeSync(fd, pageOf(3), 0, PAGE, 300 * MIB);
  const saved = block(fd, length);
  const image = scratch.image(0);
  await using channels = await FileChannels.open({
    path: image,
    access: 'write',
    count: 2,
    direct: true,
    blocks: [saved],
  });
  const counts = await channels.transfer();
  assert.equal(counts.normalPages, 1);
  assert.equal(allocated(fd), PAGE);
  const imageFd = openSync(image, 'r');
  assert.ok(allocated(imageFd) <= 64 * KIB, `${allocated(imageFd)} bytes are allocated`);
  closeSync(imageFd);
});

describe('short stretches of zero pages between data', () => {
  const saveAlternating = async (bridgeBytes: number) => {
    using scratch = new Scratch();
    const length = 8 * MIB;
    const fd = scratch.memory(length);
    for (let page = 0; page < length / PAGE; page++) {
      pokePage(fd, page, page % 2 === 0 ? pageOf(page) : Buffer.alloc(PAGE));
    }
    const image = scratch.image(0);
    const saved = block(fd, length);
    using faults = installFaults([]);
    await using channels = await FileChannels.open({
      path: image,
      access: 'write',
      count: 1,
      direct: true,
      blocks: [saved],
      bridgeBytes,
    });
    const counts = await channels.transfer();
    assert.ok(
      naiveLoad(image, saved).equals(bytesOf(fd, 0, length)),
      'an independent loader reads other memory than was saved',
    );
    assert.equal(countBits(saved.bitmap), counts.normalPages);
    return { writes: faults.counts().write, counts, pages: length / PAGE };
  };

  test('are written along, in few large writes', async () => {
    const { writes, counts, pages } = await saveAlternating(32 * KIB);
    assert.equal(writes, 2);
    // The last page of each of the two chunks is zero and has no data after it.
    assert.equal(counts.normalPages, pages - 2);
    assert.equal(counts.duplicatePages, 2);
  });

  test('are left out when that is asked for', async () => {
    const { writes, counts, pages } = await saveAlternating(0);
    assert.equal(writes, pages / 2);
    assert.equal(counts.normalPages, pages / 2);
  });
});

test('memory that was looked at does not stay resident in this process', async () => {
  using scratch = new Scratch();
  const length = 64 * MIB;
  const fd = scratch.memory(length);
  writeSync(fd, Buffer.alloc(length, 1), 0, length, 0);
  const sharedKib = () => Number(/RssShmem:\s*(\d+)/.exec(readFileSync('/proc/self/status', 'latin1'))?.[1]);
  const before = sharedKib();
  await using channels = await FileChannels.open({
    path: scratch.image(0),
    access: 'write',
    count: 2,
    direct: true,
    blocks: [block(fd, length)],
  });
  await channels.transfer();
  assert.ok(sharedKib() - before < 16 * KIB, 'the memory was allocated by reading it');
});
