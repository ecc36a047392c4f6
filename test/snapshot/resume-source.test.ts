import assert from 'node:assert/strict';
import { appendFileSync, mkdtempSync, renameSync, rmSync, truncateSync, unlinkSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { MapramError } from '../../src/errors.js';
import { ResumeSource } from '../../src/snapshot/resume-source.js';
import { writeBuiltinImage } from './builtin-image.js';

describe('a file between being read and being mapped', () => {
  let folder: string;
  before(() => {
    folder = mkdtempSync(path.join(os.tmpdir(), 'mapram-source-'));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

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
});
