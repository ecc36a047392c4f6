import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { readRegularFile } from '../../../src/io/file/regular-file.js';
import { Folder } from '../../manifest/sample.js';

test('a file that nobody named is read only if it is a regular one of bounded size; a FIFO is not waited for (F24)', () => {
  using folder = new Folder();
  const file = folder.file('file');
  writeFileSync(file, 'contents');
  execFileSync('mkfifo', [folder.file('fifo')]);
  mkdirSync(folder.file('directory'));
  symlinkSync(file, folder.file('link'));
  assert.equal(readRegularFile(file, 8)?.toString(), 'contents');
  assert.equal(readRegularFile(file, 7), undefined);
  for (const name of ['fifo', 'directory', 'link', 'nothing']) {
    assert.equal(readRegularFile(folder.file(name), 8), undefined, name);
  }
  assert.equal(readRegularFile('/dev/zero', 8), undefined);
});
