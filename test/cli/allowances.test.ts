import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { resume } from '../../src/snapshot/resume/resume.js';
import { writeBuiltinImage } from '../snapshot/builtin-image.js';
import { failsWith } from '../support/fails-with.js';
import { temporaryFolder } from '../support/temporary-folder.js';
import { runCli } from './run-cli.js';

const folder = temporaryFolder('allowances');

for (const args of [
  ['resume', 'vm.mapram', '--force'],
  ['fork', 'vm.mapram', '--force', '--count', '2'],
]) {
  test(`${args[0]} --force names the options that took its place`, async () => {
    const { code, stdout, stderr } = await runCli(args);
    assert.deepEqual([code, stdout], [2, '']);
    assert.match(stderr, /--force replaces files.*--allow-changed-disks.*--trust/);
    const help = await runCli([args[0] as string, '--help']);
    assert.doesNotMatch(help.stdout, /--force/);
    assert.match(help.stdout, /--trust[\s\S]*--allow-changed-disks/);
  });
}

test('a library call with force names the options that took its place', async () => {
  const file = path.join(folder, 'image');
  await writeBuiltinImage(file);
  const options: object = { force: true };
  await assert.rejects(
    resume({ file, command: ['no-such-qemu'], ...options }),
    failsWith('USAGE', /no option force; allowChangedDisks .* trust/),
  );
});
