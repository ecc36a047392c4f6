import assert from 'node:assert/strict';
import { closeSync, openSync, renameSync } from 'node:fs';
import path from 'node:path';
import { before, describe, test } from 'node:test';
import { MemoryMap } from '../../../src/io/memory/memory-map.js';
import { MappedRamImage } from '../../../src/mapped-ram/image.js';
import { writtenBeforeLoad } from '../../../src/snapshot/checks/written-before-load.js';
import { CheckedFile } from '../../../src/snapshot/files/checked-file.js';
import { failsWith } from '../../support/fails-with.js';
import { temporaryFolder } from '../../support/temporary-folder.js';
import { writeBuiltinImage } from '../builtin-image.js';

describe('writtenBeforeLoad', () => {
  let folder: string;
  let file: string;
  before(async () => {
    folder = temporaryFolder('written');
    file = path.join(folder, 'image');
    await writeBuiltinImage(file);
  });

  test('refuses a QEMU whose memory cannot be found, rather than trust it (guests 1)', async () => {
    await using image = await MappedRamImage.open(file);
    const names = image.blocks.map(({ idstr }) => idstr);
    await assert.rejects(
      writtenBeforeLoad(image, CheckedFile.of(image), process.pid, names),
      failsWith('UNSUPPORTED', /has the file mapped.*use "mapram restore"/),
    );
  });

  for (const own of [true, false]) {
    const whose = own ? 'takes memory that is the open file' : 'refuses memory that is another file';
    test(`${whose}, though the path leads to the other one by now (F2)`, async () => {
      const opened = path.join(folder, `opened-${own}`);
      const other = path.join(folder, `other-${own}`);
      for (const name of [opened, other]) await writeBuiltinImage(name);
      await using image = await MappedRamImage.open(opened);
      const checked = CheckedFile.of(image);
      const fd = openSync(own ? opened : other, 'r');
      const {
        pagesOffset: offset,
        usedLength: length,
        idstr,
      } = image.blocks[0] as (typeof image.blocks)[number];
      using _mapped = MemoryMap.open({ fd, offset, length, writable: true, copyOnWrite: true });
      closeSync(fd);
      renameSync(other, opened);
      const looked = writtenBeforeLoad(image, checked, process.pid, [idstr]);
      if (own) assert.deepEqual(await looked, []);
      else await assert.rejects(looked, failsWith('UNSUPPORTED', /has the file mapped/));
    });
  }

  test('looks at no process where nothing is mapped', async () => {
    await using image = await MappedRamImage.open(file);
    assert.deepEqual(await writtenBeforeLoad(image, CheckedFile.of(image), 2 ** 22 + 1, []), []);
  });
});
