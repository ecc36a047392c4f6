import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { before, describe, test } from 'node:test';
import { openSavedVm } from '../../../src/analysis/open-saved-vm.js';
import type { SavedVm } from '../../../src/analysis/saved-vm.js';
import { convertToMappedRam } from '../../../src/snapshot/convert/convert-mapped-ram.js';
import { convertToStream } from '../../../src/snapshot/convert/convert-stream.js';
import { goldenBytes } from '../../golden/golden-file.js';
import { failsWith } from '../../support/fails-with.js';
import { temporaryFolder } from '../../support/temporary-folder.js';

let folder: string;
before(() => {
  folder = temporaryFolder('convert');
});

async function goldenVm(name: string): Promise<SavedVm> {
  const file = path.join(folder, name);
  writeFileSync(file, goldenBytes(name));
  return await openSavedVm(file);
}

async function assertSameVm(one: SavedVm, other: SavedVm): Promise<void> {
  assert.equal(other.configuration.machine, one.configuration.machine);
  assert.deepEqual(
    other.devices.map(({ idstr, data }) => [idstr, Buffer.from(data)]),
    one.devices.map(({ idstr, data }) => [idstr, Buffer.from(data)]),
  );
  assert.equal(other.tail.descriptionText, one.tail.descriptionText);
  assert.equal(other.blocks.length, one.blocks.length);
  for (const [index, block] of one.blocks.entries()) {
    const copy = other.blocks[index];
    assert.ok(copy, 'there is no copy');
    assert.equal(copy.idstr, block.idstr);
    assert.equal(copy.usedLength, block.usedLength);
    const same = Buffer.from(await one.readPages(block, 0, block.pageCount)).equals(
      await other.readPages(copy, 0, block.pageCount),
    );
    assert.ok(same, `${block.idstr} differs`);
  }
}

describe('convert --to stream', () => {
  for (const name of [
    'pc-10.0-mapped-ram-live',
    'q35-10.0-mapped-ram-virtio-mem',
    'pc-7.2-stream-compress',
  ]) {
    test(`and back keeps all of ${name}`, async () => {
      await using saved = await goldenVm(name);
      const stream = path.join(folder, `${name}.stream`);
      const { files } = await convertToStream.convert(saved, { output: stream });
      assert.equal(files[0]?.fileBytes, readFileSync(stream).length);
      await using streamed = await openSavedVm(stream);
      assert.equal(streamed.form, 'stream');
      assert.deepEqual(streamed.problems, []);
      await assertSameVm(saved, streamed);

      const back = path.join(folder, `${name}.mapped`);
      await convertToMappedRam.convert(streamed, { output: back });
      await using mapped = await openSavedVm(back);
      assert.equal(mapped.form, 'mapped-ram');
      await assertSameVm(saved, mapped);
    });
  }

  test('refuses what it cannot hold', async () => {
    const output = path.join(folder, 'never');
    await using partial = await goldenVm('pc-10.0-mapped-ram-ignore-shared');
    await assert.rejects(
      convertToStream.convert(partial, { output }),
      failsWith('UNSUPPORTED', /x-ignore-shared/),
    );
    await using whole = await goldenVm('pc-10.0-mapped-ram');
    await assert.rejects(convertToStream.convert(whole, { output, block: 'pc.ram' }), failsWith('USAGE'));
  });
});
