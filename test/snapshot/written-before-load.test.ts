import assert from 'node:assert/strict';
import { mkdtempSync, realpathSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { MapramError } from '../../src/errors.js';
import { MappedRamImage } from '../../src/mapped-ram/image.js';
import { writtenBeforeLoad } from '../../src/snapshot/written-before-load.js';
import { writeBuiltinImage } from './builtin-image.js';

describe('writtenBeforeLoad', () => {
  let folder: string;
  let file: string;
  before(async () => {
    folder = realpathSync(mkdtempSync(path.join(os.tmpdir(), 'mapram-written-')));
    file = path.join(folder, 'image');
    await writeBuiltinImage(file);
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  test('refuses a QEMU whose memory cannot be found, rather than trust it (guests 1)', async () => {
    await using image = await MappedRamImage.open(file);
    const names = image.blocks.map(({ idstr }) => idstr);
    await assert.rejects(
      writtenBeforeLoad(image, file, process.pid, names),
      (error) =>
        error instanceof MapramError &&
        error.code === 'UNSUPPORTED' &&
        /has the file mapped.*use "mapram restore"/.test(error.message),
    );
  });

  test('looks at no process where nothing is mapped', async () => {
    await using image = await MappedRamImage.open(file);
    assert.deepEqual(await writtenBeforeLoad(image, file, 2 ** 22 + 1, []), []);
  });
});
