import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import path from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { repositoryRoot } from '../support/environment.js';
import { temporaryFolder } from '../support/temporary-folder.js';

test('threads start in a process whose program is text', async () => {
  const library = pathToFileURL(path.join(repositoryRoot, 'build', 'src', 'index.js')).href;
  const file = path.join(temporaryFolder('input-type'), 'vm.mapram');
  const program = `
    import { BuiltinGuest, save, verify } from '${library}';
    const guest = await BuiltinGuest.start({ size: 16 << 20 });
    await save({ vm: guest, file: '${file}' });
    await guest.close();
    console.log((await verify({ file: '${file}' })).ok);`;
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', program]);
  assert.equal(stdout, 'true\n');
});
