import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { createLog } from '../../src/cli/log.js';
import { asksFor } from '../../src/io/call-trace.js';
import { temporaryFolder } from '../support/temporary-folder.js';
import { runCli } from './run-cli.js';

const root = temporaryFolder('log');

const records = (stderr: string) =>
  stderr
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Record<string, unknown>);

test('--log json: every line of stderr is a record; stdout is as it was', async () => {
  const file = path.join(root, 'vm.mapram');
  const { code, stdout, stderr } = await runCli(['save', 'builtin:size=16M', file, '--log', 'json']);
  assert.equal(code, 0, stderr);
  assert.match(stdout, /^saved: /);
  const [started, ...more] = records(stderr);
  const finished = more.at(-1);
  assert.deepEqual([started?.level, started?.command, started?.message], ['info', 'save', 'started']);
  assert.deepEqual([finished?.message, finished?.file], ['finished', file]);
  assert.equal(typeof finished?.normalBytes, 'number');
  assert.ok(!Number.isNaN(Date.parse(String(started?.time))), `no time: ${started?.time}`);
});

test('a failure is an error record; levels below the wanted one are left out', async () => {
  const file = path.join(root, 'absent');
  const { code, stderr } = await runCli(['inspect', file, '--log', 'json', '--log-level', 'error']);
  assert.equal(code, 1);
  const [failure, ...more] = records(stderr);
  assert.deepEqual(more, []);
  assert.deepEqual([failure?.level, failure?.code, failure?.path], ['error', 'IO', file]);
});

test('text records are one line with quoted values', () => {
  const lines: string[] = [];
  const log = createLog({
    command: 'save',
    format: 'text',
    level: 'info',
    write: (line) => lines.push(line),
  });
  log('debug', 'not wanted');
  log('warn', 'no direct I/O', { path: '/a b', count: 3 });
  assert.equal(lines.length, 1);
  assert.match(String(lines[0]), /^\d{4}-\S+Z WARN {2}save: no direct I\/O path="\/a b" count=3$/);
});

test('DEBUG=mapram:syscalls shows the calls of every thread, and no contents', async () => {
  const file = path.join(root, 'traced.mapram');
  const args = ['save', 'builtin:size=16M', file, '--direct-io', 'off', '--channels', '2'];
  const { code, stderr } = await runCli(args, { env: { DEBUG: 'other,mapram:*' } });
  assert.equal(code, 0, stderr);
  const calls = stderr.split('\n').filter((line) => line.startsWith('mapram:syscalls '));
  assert.ok(
    calls.some((line) => /^mapram:syscalls thread 0 open \/.* flags 0o\d+$/.test(line)),
    calls.join('\n'),
  );
  assert.ok(
    calls.some((line) => /^mapram:syscalls thread [1-9]\d* write fd \d+ \d+ bytes at \d+$/.test(line)),
    stderr,
  );
  assert.ok(
    calls.some((line) => / (?:link|rename) .*traced\.mapram$/.test(line)),
    stderr,
  );
  for (const call of ['mmap', 'munmap', 'fallocate', 'memfd_create', 'lseek', 'flock'])
    assert.ok(
      calls.some((line) => line.includes(` ${call}(`)),
      `no ${call}`,
    );
});

test('DEBUG takes lists and wildcards', () => {
  for (const list of ['mapram:syscalls', 'a mapram:syscalls', 'a,mapram:*', '*'])
    assert.equal(asksFor('mapram:syscalls', list), true, list);
  for (const list of ['', 'mapram', 'mapram:other', 'xmapram:*'])
    assert.equal(asksFor('mapram:syscalls', list), false, list);
});
