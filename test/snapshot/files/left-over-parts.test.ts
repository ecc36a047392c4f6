import assert from 'node:assert/strict';
import { existsSync, symlinkSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { checkLeftBehind } from '../../../src/doctor/left-behind.js';
import { findLeftOvers } from '../../../src/snapshot/files/left-over-parts.js';
import { TargetFile } from '../../../src/snapshot/files/target-file.js';
import { Folder } from '../../manifest/sample.js';

test('part files that nobody writes are found and removed, all others stay', async () => {
  using folder = new Folder();
  using writing = TargetFile.create(folder.file('being-written'));
  const dead = folder.file('.dead.mapram-part');
  writeFileSync(dead, Buffer.alloc(8192));
  for (const name of ['vm', '.mapram-part', 'x.mapram-part', '.x.mapram-part.bak'])
    writeFileSync(folder.file(name), '');
  symlinkSync(folder.file('vm'), folder.file('.link.mapram-part'));
  assert.deepEqual(findLeftOvers(folder.path), [{ path: dead, target: folder.file('dead'), bytes: 8192 }]);
  const seen = await checkLeftBehind(folder.path, { clean: false, rescue: false });
  assert.deepEqual(
    seen.parts.map(({ removed }) => removed),
    [false],
  );
  assert.ok(existsSync(dead), `${dead} is missing`);
  const cleaned = await checkLeftBehind(folder.path, { clean: true, rescue: false });
  assert.deepEqual(
    cleaned.parts.map(({ path, removed }) => [path, removed]),
    [[dead, true]],
  );
  assert.ok(!existsSync(dead), `${dead} is still there`);
  assert.ok(
    existsSync(writing.partPath) && existsSync(folder.file('.link.mapram-part')),
    'a file that is in use was removed',
  );
});
