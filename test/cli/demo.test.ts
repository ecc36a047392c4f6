import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { temporaryFolder } from '../support/temporary-folder.js';
import { runCli } from './run-cli.js';

const root = temporaryFolder('demo-test');

test('demo goes the whole round and leaves nothing behind', async () => {
  const { code, result, lines, stderr } = await runCli(['demo', root, '--json']);
  assert.equal(code, 0, stderr);
  const ticks = result.ticks as { saved: number; loaded: number; afterwards: number };
  assert.equal(ticks.loaded, ticks.saved);
  assert.ok(ticks.afterwards > ticks.loaded, `afterwards: ${ticks.afterwards}`);
  assert.match(String(result.memoryChecksum), /^0x[0-9a-f]{8}$/);
  const save = result.save as Record<string, unknown>;
  assert.equal(path.dirname(path.dirname(String(save.file))), root);
  assert.ok(
    lines.some((line) => line.progress === 'demo'),
    'no progress was reported',
  );
  assert.deepEqual(readdirSync(root), []);
});

test('demo without direct I/O tells its story step by step', async () => {
  const { code, stdout } = await runCli(['demo', root, '--direct-io', 'off']);
  assert.equal(code, 0);
  const steps = [...stdout.matchAll(/^(run on|run|save|inspect|load|check) /gm)].map(([, name]) => name);
  assert.deepEqual(steps, ['run', 'save', 'inspect', 'run on', 'load', 'check', 'run on']);
  assert.match(stdout, /direct I\/O off/);
  assert.match(stdout, /\nAll good in .*\n$/);
  assert.deepEqual(readdirSync(root), []);
});

test('demo that is cancelled leaves nothing behind', async () => {
  let sent = false;
  const { code, result } = await runCli(['demo', root, '--json'], {
    onStdout(child) {
      if (!sent) child.kill('SIGINT');
      sent = true;
    },
  });
  assert.equal(code, 130);
  assert.equal((result.error as { code: string }).code, 'CANCELLED');
  assert.deepEqual(readdirSync(root), []);
});

test('demo in a directory that is not there fails in one line', async () => {
  const { code, stderr } = await runCli(['demo', path.join(root, 'absent')]);
  assert.equal(code, 1);
  assert.match(stderr, /^mapram: demo: creating a directory in .*absent: no such file or directory\n$/);
});
