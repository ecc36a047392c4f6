import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { temporaryFolder } from '../support/temporary-folder.js';
import { runCli } from './run-cli.js';

const root = temporaryFolder('doctor');
// An empty PATH: what other tests say about QEMUs is not repeated here.
const env = { PATH: root };

test('doctor tells about host, directory and speed, for people', async () => {
  const { code, stdout, stderr } = await runCli(['doctor', root], { env });
  assert.deepEqual([code, stderr], [0, '']);
  assert.match(stdout, /^host: +Linux /);
  assert.match(stdout, /\nspeed: +write .*\/s, read .*\/s/);
  assert.match(stdout, /\nAll is well, \d notes? above\.\n$/);
  assert.doesNotMatch(stdout, /native calls/);
  const all = await runCli(['doctor', root, '--all'], { env });
  assert.match(all.stdout, /\nok +native calls: work \(koffi \d/);
});

test('doctor --json has the same as values', async () => {
  const { code, result } = await runCli(['doctor', root, '--json'], { env });
  assert.equal(code, 0);
  assert.deepEqual(Object.keys(result), ['result', 'host', 'qemus', 'directory', 'leftBehind', 'findings']);
  const { directory, host } = result as { directory: Record<string, unknown>; host: Record<string, unknown> };
  assert.equal(directory.path, root);
  assert.equal(host.node, process.versions.node);
});

test('doctor on what is no directory fails in one line', async () => {
  const { code, stdout, stderr } = await runCli(['doctor', path.join(root, 'absent')], { env });
  assert.equal(code, 1);
  assert.equal(stdout, '');
  assert.match(stderr, /^mapram: examining .*absent: no such file or directory\n$/);
});
