import assert from 'node:assert/strict';
import { chmodSync, chownSync, mkdirSync, rmSync, statSync, symlinkSync } from 'node:fs';
import path from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { recordFolder, recordFolders } from '../../src/snapshot/guard/record-folder.js';
import { Folder } from '../manifest/sample.js';
import { failsWith } from '../support/fails-with.js';

const needsRoot = { skip: process.getuid?.() !== 0 && 'needs root' };
/** Without an entry in /etc/passwd. */
const UID = 4242;

let temporary: Folder;
beforeEach(() => {
  temporary = new Folder();
  chmodSync(temporary.path, 0o1777);
  delete process.env.XDG_RUNTIME_DIR;
});
afterEach(() => temporary[Symbol.dispose]());

function asUser<T>(uid: number, body: () => T): T {
  process.seteuid?.(uid);
  try {
    return body();
  } finally {
    process.seteuid?.(0);
  }
}

test('a user without an entry in passwd has a folder for records (F17)', needsRoot, () => {
  const folder = asUser(UID, () => recordFolder(temporary.path));
  assert.equal(folder, path.join(temporary.path, `mapram-${UID}`));
  const { uid, mode } = statSync(folder);
  assert.deepEqual([uid, mode & 0o777], [UID, 0o700]);
});

test(
  'where another user has made the folder, another one is used, and its records are found (F18)',
  needsRoot,
  () => {
    const usual = path.join(temporary.path, `mapram-${UID}`);
    const others = [() => mkdirSync(usual, { mode: 0o700 }), () => symlinkSync(temporary.path, usual)];
    // Neither is another user's folder of a name that could be taken for this user's.
    mkdirSync(`${usual}-aaaaaa`);
    for (const make of others) {
      make();
      const [folder, again, all] = asUser(
        UID,
        () =>
          [
            recordFolder(temporary.path),
            recordFolder(temporary.path),
            recordFolders(temporary.path),
          ] as const,
      );
      assert.match(folder, /\/mapram-4242-\w{6}$/);
      assert.equal(again, folder);
      assert.deepEqual(all, [folder]);
      assert.equal(statSync(folder).uid, UID);
      rmSync(usual, { recursive: true });
      // The usual folder can be had again: what was noted elsewhere is still found.
      assert.deepEqual(
        asUser(UID, () => recordFolders(temporary.path)),
        [usual, folder],
      );
      rmSync(usual, { recursive: true });
    }
  },
);

test('a folder that others may enter is not used (F18)', needsRoot, () => {
  const usual = path.join(temporary.path, `mapram-${UID}`);
  mkdirSync(usual);
  chownSync(usual, UID, UID);
  chmodSync(usual, 0o755);
  assert.notEqual(
    asUser(UID, () => recordFolder(temporary.path)),
    usual,
  );
});

test('a runtime directory in which no folder can be is an error at once (F29)', () => {
  for (const directory of ['/proc', '/proc/self/nothing', '/dev/null']) {
    process.env.XDG_RUNTIME_DIR = directory;
    assert.throws(() => recordFolder(), failsWith('IO', /noting the save in .*XDG_RUNTIME_DIR/));
  }
  process.env.XDG_RUNTIME_DIR = path.join(temporary.path, 'not', 'there', 'yet');
  assert.equal(statSync(recordFolder()).mode & 0o777, 0o700);
});
