import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import path from 'node:path';
import { test } from 'node:test';
import { temporaryFolder } from '../support/temporary-folder.js';
import { runCli } from './run-cli.js';

const root = temporaryFolder('ui-cli');
const quiet = ['--no-find-running', '--no-speed-trial'];

/** Asks for the page as soon as its address is there, then ends the command as a user would. */
function visit(status: number[]) {
  let visited = false;
  return (child: ChildProcess, stdout: string) => {
    const url = /http:\/\/127\.0\.0\.1:\d+\/[\w-]+\//.exec(stdout)?.[0];
    if (url === undefined || visited) return;
    visited = true;
    void fetch(url)
      .then((answer) => status.push(answer.status))
      .finally(() => child.kill('SIGINT'));
  };
}

test('ui prints an address that works, and ^C ends it well', async () => {
  const status: number[] = [];
  const { code, stderr } = await runCli(['ui', root, ...quiet], { onStdout: visit(status) });
  assert.equal(code, 0, stderr);
  assert.deepEqual(status, [200]);
});

test('ui --json says when it is ready', async () => {
  const status: number[] = [];
  const args = ['ui', root, ...quiet, '--builtin', 'size=2M', '--json'];
  const { code, lines } = await runCli(args, { onStdout: visit(status) });
  assert.equal(code, 0);
  assert.deepEqual(status, [200]);
  assert.equal(lines[0]?.ready, 'ui');
  assert.match(String(lines[0]?.url), /^http:\/\/127\.0\.0\.1:/);
  assert.deepEqual(lines.at(-1), { result: 'ui' });
});

test('ui refuses wrong arguments', async () => {
  for (const [args, message] of [
    [['--port', '70000'], /port from 0 to 65535/],
    [['--builtin', 'size=x'], /size/],
  ] as const) {
    const { code, stderr } = await runCli(['ui', root, ...quiet, ...args]);
    assert.equal(code, 2, stderr);
    assert.match(stderr, message);
  }
  const missing = await runCli(['ui', path.join(root, 'nowhere'), ...quiet]);
  assert.equal(missing.code, 1);
  assert.match(missing.stderr, /nowhere/);
});
