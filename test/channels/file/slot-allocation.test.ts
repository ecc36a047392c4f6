import assert from 'node:assert/strict';
import { constants, fstatSync, openSync } from 'node:fs';
import { test } from 'node:test';
import type { ChannelBlock } from '../../../src/channels/channel-block.js';
import {
  coverSlots,
  noPieces,
  releaseUnusedSlots,
  reserveSlots,
  SlotAllocator,
} from '../../../src/channels/file/slot-allocation.js';
import { installFaults } from '../../../src/io/faults.js';
import { dataExtents } from '../../../src/io/file/data-extents.js';
import { allocatedBytes } from '../../../src/io/file/file-space.js';
import { block, MIB, PAGE, pageOf, pokePage, Scratch } from '../fixtures.js';

const PIECE = 32 * MIB;
const LENGTH = 5 * PIECE;

function open(scratch: Scratch): { fd: number; memory: number; block: ChannelBlock } {
  const fd = scratch.own(openSync(scratch.image(0), constants.O_WRONLY));
  const memory = scratch.memory(LENGTH + PAGE);
  return { fd, memory, block: block(memory, LENGTH, { allocated: noPieces(LENGTH) }) };
}

const reserved = ({ allocated }: ChannelBlock) => [...new Uint8Array(allocated ?? new SharedArrayBuffer(0))];

test('space is reserved for pieces whose memory holds data, and the file reaches to the end of the slots', async () => {
  using scratch = new Scratch();
  const { fd, memory, block } = open(scratch);
  // The block begins at the second page of the memory: data before it and at its very ends.
  for (const page of [0, 1, (2 * PIECE) / PAGE, LENGTH / PAGE]) pokePage(memory, page, pageOf(page));
  coverSlots(fd, [block]);
  assert.equal(fstatSync(fd).size, block.pagesOffset + LENGTH);
  await reserveSlots(fd, { fd: memory, offset: PAGE }, block);
  assert.deepEqual(reserved(block), [1, 1, 0, 0, 1]);
  assert.equal(allocatedBytes(fd), 3 * PIECE);
  assert.equal(fstatSync(fd).size, block.pagesOffset + LENGTH);

  // What comes elsewhere reserves its own piece, once.
  const allocator = new SlotAllocator(fd);
  using faults = installFaults([]);
  allocator.prepare(block, 3 * PIECE + PAGE, PAGE);
  allocator.prepare(block, 2 * PIECE - PAGE, 2 * PAGE);
  allocator.prepare(block, 3 * PIECE, PAGE);
  assert.deepEqual(reserved(block), [1, 1, 1, 1, 1]);
  assert.equal(faults.counts().allocate, 2);
  assert.equal(allocatedBytes(fd), LENGTH);
});

test('without enough space nothing stays reserved', async () => {
  using scratch = new Scratch();
  const { fd, memory, block } = open(scratch);
  pokePage(memory, 0, pageOf(0));
  pokePage(memory, (2 * PIECE) / PAGE, pageOf(1));
  coverSlots(fd, [block]);
  {
    using _ = installFaults([{ call: 'allocate', nth: 2, errno: 'ENOSPC' }]);
    await reserveSlots(fd, { fd: memory, offset: 0 }, block);
  }
  assert.deepEqual(reserved(block), [0, 0, 0, 0, 0]);
  assert.equal(allocatedBytes(fd), 0);
  {
    using _ = installFaults([{ call: 'allocate', nth: 2, errno: 'EIO' }]);
    await assert.rejects(reserveSlots(fd, { fd: memory, offset: 0 }, block), { code: 'EIO' });
  }
});

test('what no page took is given back', async () => {
  using scratch = new Scratch();
  const { fd, memory, block } = open(scratch);
  pokePage(memory, 0, pageOf(0));
  // ext4 gives nothing back beyond the end of a file.
  coverSlots(fd, [block]);
  await reserveSlots(fd, { fd: memory, offset: 0 }, block);
  assert.equal(allocatedBytes(fd), PIECE);
  new Uint8Array(block.bitmap)[0] = 1;
  await releaseUnusedSlots(fd, [block]);
  assert.ok(allocatedBytes(fd) <= MIB, `${allocatedBytes(fd)} bytes are allocated`);
});

test('a file that is longer already keeps its length', () => {
  using scratch = new Scratch();
  const { block } = open(scratch);
  const fd = scratch.own(openSync(scratch.image(2 * LENGTH, 'long'), constants.O_WRONLY));
  coverSlots(fd, [block]);
  assert.equal(fstatSync(fd).size, 2 * LENGTH);
  assert.deepEqual([...dataExtents(fd, 0, 2 * LENGTH)], []);
});
