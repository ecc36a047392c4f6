/** Memory in a memfd that is sealed against shrinking, as QEMU's are: it is used where it is mapped, and not copied. */
import assert from 'node:assert/strict';
import { truncateSync } from 'node:fs';
import { test } from 'node:test';
import { BlockMemory, CopyBuffer } from '../../../src/channels/file/block-memory.js';
import { ChunkMemory } from '../../../src/channels/file/chunk-memory.js';
import { FileChannels } from '../../../src/channels/file/file-channels.js';
import { descriptorPath } from '../../../src/io/file/open-file.js';
import { MemoryMap } from '../../../src/io/memory/memory-map.js';
import { native } from '../../../src/io/native.js';
import { block, bytesOf, MIB, naiveLoad, PAGE, pageOf, pokePage, Scratch } from '../fixtures.js';

const F_ADD_SEALS = 1033;
const F_SEAL_SHRINK = 2;
const LENGTH = 8 * MIB;

/** Every third page holds data; the other pages are holes. */
function filledMemory(scratch: Scratch, fd = scratch.memory(LENGTH)): number {
  for (let page = 0; page < LENGTH / PAGE; page += 3) pokePage(fd, page, pageOf(page));
  return fd;
}

function sealedMemory(scratch: Scratch): number {
  const fd = scratch.sealable(LENGTH);
  native().fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK);
  return fd;
}

for (const sealed of [true, false]) {
  test(`memory that ${sealed ? 'nobody can cut short is used where it is' : 'may be cut short is copied first'} (F10)`, () => {
    using scratch = new Scratch();
    const fd = filledMemory(scratch, sealed ? sealedMemory(scratch) : scratch.sealable(LENGTH));
    using map = MemoryMap.open({ fd, offset: 0, length: LENGTH });
    const memory = new BlockMemory(
      block(fd, LENGTH, { memory: { fd, offset: 0, map: map.address } }),
      new CopyBuffer(MIB),
    );
    const chunk = new ChunkMemory(4 * MIB);
    const pages = (4 * MIB) / PAGE;
    chunk.begin({ blockIndex: 0, start: 0, end: 4 * MIB, firstPage: 0, endPage: pages }, memory);
    const page = chunk.bytes(3 * PAGE, 4 * PAGE);
    assert.deepEqual(page, pageOf(3));
    pokePage(fd, 3, pageOf(1000));
    assert.deepEqual(page, sealed ? pageOf(1000) : pageOf(3));
  });
}

for (const direct of [true, false]) {
  test(`sealed memory is saved and loaded, ${direct ? 'by direct I/O' : 'through the page cache'} (F10)`, async () => {
    using scratch = new Scratch();
    const fd = filledMemory(scratch, sealedMemory(scratch));
    assert.throws(() => truncateSync(descriptorPath(fd), 0), { code: 'EPERM' });
    const saved = block(fd, LENGTH);
    const options = { path: scratch.image(MIB + LENGTH), count: 2, direct };
    {
      await using channels = await FileChannels.open({ ...options, access: 'write', blocks: [saved] });
      await channels.transfer();
    }
    assert.ok(
      naiveLoad(options.path, saved).equals(bytesOf(fd, 0, LENGTH)),
      'an independent loader reads other memory than was saved',
    );
    const target = sealedMemory(scratch);
    const { bitmap } = saved;
    await using channels = await FileChannels.open({
      ...options,
      access: 'read',
      blocks: [block(target, LENGTH, { bitmap })],
    });
    await channels.transfer();
    assert.ok(
      bytesOf(target, 0, LENGTH).equals(bytesOf(fd, 0, LENGTH)),
      'the loaded memory is not what was saved',
    );
  });
}
