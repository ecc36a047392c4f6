/** Compares what mapram reads from an image with what the guest's memory holds. */
import assert from 'node:assert/strict';
import { open } from 'node:fs/promises';
import type { MappedRamImage } from '../../src/mapped-ram/image.js';
import type { TestVm } from './qemu.js';

const chunkPages = 256;

/**
 * Every page of the guest's RAM blocks, against the files behind its memory. The VM must be stopped since the save.
 * Gives the number of pages whose bit is set.
 */
export async function assertImageHoldsMemory(image: MappedRamImage, vm: TestVm): Promise<number> {
  assert.ok(image.complete, `${image.path} is not complete`);
  assert.deepEqual(image.problems, []);
  assert.ok(vm.memoryFiles.length > 0, 'the VM has no memory files to compare with');
  let normalPages = 0;
  for (const [idstr, file] of vm.memoryBlocks) {
    const block = image.block(idstr);
    assert.ok(block, `${image.path} has no block ${idstr}`);
    await using memory = await open(file);
    assert.equal(block.usedLength, (await memory.stat()).size);
    const expected = Buffer.alloc(chunkPages * block.pageSize);
    for (let first = 0; first < block.pageCount; first += chunkPages) {
      const count = Math.min(chunkPages, block.pageCount - first);
      const length = count * block.pageSize;
      await memory.read(expected, 0, length, first * block.pageSize);
      // Not deepEqual: a failure must not print megabytes of memory.
      const same = expected.subarray(0, length).equals(await image.readPages(block, first, count));
      assert.ok(same, `${idstr} differs from the guest's memory in pages ${first} to ${first + count}`);
    }
    for (const run of image.runs(block)) normalPages += run.count;
  }
  return normalPages;
}
