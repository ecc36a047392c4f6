import assert from 'node:assert/strict';
import {
  appendFileSync,
  chmodSync,
  closeSync,
  openSync,
  renameSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type FileChange, FileWatch } from '../../../src/io/file/file-watch.js';
import { temporaryFolder } from '../../support/temporary-folder.js';

const folder = temporaryFolder('watch');

function watched(name: string) {
  const file = path.join(folder, name);
  writeFileSync(file, 'x'.repeat(8192));
  // Otherwise a write in the same tick of the file system's clock would leave no trace.
  utimesSync(file, 1, 1);
  const fd = openSync(file, 'r');
  const changes: FileChange[] = [];
  const watch = new FileWatch(fd, (change) => changes.push(change));
  closeSync(fd);
  return { file, changes, watch };
}

test('tells of writes and of cuts, each once', async () => {
  const { file, changes, watch } = watched('file');
  appendFileSync(file, 'more');
  while (changes.length < 1) await sleep(1);
  appendFileSync(file, 'and more');
  truncateSync(file, 4096);
  while (changes.length < 2) await sleep(1);
  watch[Symbol.dispose]();
  watch[Symbol.dispose]();
  appendFileSync(file, 'too late');
  assert.deepEqual(changes, ['written', 'cut']);
});

test('follows the file and not its name, and does not mind what leaves the contents alone', () => {
  const { file, changes, watch } = watched('old');
  renameSync(file, `${file}.moved`);
  writeFileSync(file, 'another file');
  chmodSync(`${file}.moved`, 0o400);
  watch[Symbol.dispose]();
  assert.deepEqual(changes, []);
});

test('looks once more at the end', () => {
  const { file, changes, watch } = watched('late');
  appendFileSync(file, 'just before');
  watch[Symbol.dispose]();
  assert.deepEqual(changes, ['written']);
});
