import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { statSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { MappedRamImage } from '../../../src/mapped-ram/image.js';
import { prefetch, prefetchRanges } from '../../../src/snapshot/resume/prefetch.js';
import { Folder, writeSealedImage } from '../../manifest/sample.js';

test('a FIFO in place of the record, or of the file by then, is not waited for (F24)', async () => {
  using folder = new Folder();
  const file = folder.file('vm');
  await writeSealedImage(file);
  await using image = await MappedRamImage.open(file);
  const { size, mtimeMs } = statSync(file);
  writeFileSync(`${file}.prefetch`, JSON.stringify({ format: 1, size, mtimeMs, ranges: [[0, 4096]] }));
  assert.deepEqual(prefetchRanges(image, file, 'recorded'), [{ offset: 0, length: 4096 }]);
  const fifo = folder.file('fifo');
  execFileSync('mkfifo', [fifo, `${fifo}.prefetch`]);
  assert.deepEqual(prefetchRanges(image, fifo, 'recorded'), []);
  assert.equal(await prefetch(fifo, [{ offset: 0, length: 4096 }]), 0);
});
