import assert from 'node:assert/strict';
import {
  appendFileSync,
  closeSync,
  openSync,
  renameSync,
  statSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import { before, describe, test } from 'node:test';
import { MapramError } from '../../../src/errors.js';
import { FileSource } from '../../../src/mapped-ram/byte-source.js';
import { ResumeSource } from '../../../src/snapshot/resume/resume-source.js';
import { failsWith } from '../../support/fails-with.js';
import { temporaryFolder } from '../../support/temporary-folder.js';
import { writeBuiltinImage } from '../builtin-image.js';

describe('a file between being read and being mapped', () => {
  let folder: string;
  before(() => {
    folder = temporaryFolder('source');
  });

  const changes: [what: string, change: (file: string) => unknown][] = [
    ['changed', (file) => appendFileSync(file, 'x')],
    ['changed', (file) => truncateSync(file, 2 ** 20)],
    ['removed', (file) => unlinkSync(file)],
    [
      'replaced',
      async (file) => {
        await writeBuiltinImage(`${file}.new`);
        renameSync(`${file}.new`, file);
      },
    ],
  ];
  for (const [index, [what, change]] of changes.entries()) {
    test(`is refused when it was ${what} (${index + 1})`, async () => {
      const file = path.join(folder, `image-${index}`);
      await writeBuiltinImage(file);
      await using source = await ResumeSource.open(file);
      source.assertUnchanged();
      await change(file);
      assert.throws(
        () => source.assertUnchanged(),
        (error) =>
          error instanceof MapramError && error.code === 'VM' && error.message.includes(`was ${what}`),
      );
    });
  }

  test('is refused when it was changed and its time set back (F13)', async () => {
    const file = path.join(folder, 'image-back');
    await writeBuiltinImage(file);
    // Whole seconds can be set back exactly.
    const time = 1_700_000_000;
    utimesSync(file, time, time);
    const before = statSync(file, { bigint: true });
    await using source = await ResumeSource.open(file);
    const fd = openSync(file, 'r+');
    writeSync(fd, 'x', 2 ** 19);
    closeSync(fd);
    utimesSync(file, time, time);
    const after = statSync(file, { bigint: true });
    assert.deepEqual([after.mtimeNs, after.size], [before.mtimeNs, before.size]);
    assert.throws(() => source.assertUnchanged(), failsWith('VM', /was changed meanwhile/));
  });

  test('is compared with what it was before anything was read from it (F13)', async () => {
    const file = path.join(folder, 'image-early');
    await writeBuiltinImage(file);
    const { of } = FileSource;
    FileSource.of = async (...args) => {
      const source = await of.apply(FileSource, args);
      appendFileSync(file, 'x');
      return source;
    };
    try {
      await assert.rejects(ResumeSource.open(file), failsWith('VM', /was changed meanwhile/));
    } finally {
      FileSource.of = of;
    }
  });
});
