import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { unpack } from '../analysis/unpack.js';
import { temporaryFolder } from '../support/temporary-folder.js';
import { runCli } from './run-cli.js';

const root = temporaryFolder('diff');
const image = unpack(root, 'pc-10.0-mapped-ram');
const stream = unpack(root, 'pc-10.0-stream');
const live = unpack(root, 'pc-10.0-mapped-ram-live');

test('diff shows what differs between any two forms', async () => {
  const { code, stdout, stderr } = await runCli(['diff', image, stream]);
  assert.deepEqual([code, stderr], [0, '']);
  assert.match(stdout, /^memory: +equal$/m);
  assert.match(stdout, /^mc146818rtc {2}instance 0$/m);
  assert.match(stdout, /^ {2}base_rtc: \d+ \(0x[0-9a-f]+\) → \d+ /m);
});

test('diff lists guest addresses and exits with 1 when asked to', async () => {
  const { code, stdout, stderr } = await runCli(['diff', '--exit-code', image, live]);
  assert.equal(code, 1);
  assert.match(stderr, /^mapram: comparing .* they differ\n$/);
  assert.match(stdout, /^ {2}guest address 0x10000-0x10fff, 4 KiB$/m);
  assert.match(stdout, /--all shows them/);
  const { code: equal } = await runCli(['diff', '--exit-code', image, image]);
  assert.equal(equal, 0);
});

test('diff --json has everything, integers of 64 bits whole', async () => {
  const { result, stdout } = await runCli(['diff', '--json', image, live]);
  assert.equal(result.equal, false);
  const [ram] = result.blocks as { idstr: string; differentPages: number; ranges: unknown[] }[];
  assert.deepEqual([ram?.idstr, ram?.differentPages, ram?.ranges.length], ['pc.ram', 64, 64]);
  assert.match(stdout, /"path":"last_update","type":"uint64","before":\d{19},"after":\d{19}/);
});

test('inspect takes streams, one device and a map', async () => {
  const one = await runCli(['inspect', stream, '--device', 'mc146818rtc']);
  assert.match(one.stdout, /^mc146818rtc {2}instance 0/);
  const none = await runCli(['inspect', stream, '--device', 'floppy']);
  assert.equal(none.code, 2);
  assert.match(none.stderr, /it has no device floppy; it has timer, /);
  const map = await runCli(['inspect', live, '--map'], { env: { NO_COLOR: '1' } });
  assert.match(map.stdout, /^ {7}10000|^ {11}0 [·dDsScCxXtT]{64}$/m);
  const coloured = await runCli(['inspect', live, '--map'], { env: { NO_COLOR: '', FORCE_COLOR: '1' } });
  assert.ok(coloured.stdout.includes('\x1b[48;2;'), 'there are no colours');
});

test('inspect and diff write pages, and do not replace any unasked', async () => {
  const page = path.join(root, 'page.html');
  const { code } = await runCli(['diff', image, live, '--html', page]);
  assert.equal(code, 0);
  assert.match(readFileSync(page, 'utf8'), /Content-Security-Policy" content="default-src 'none'/);
  const again = await runCli(['inspect', live, '--html', page]);
  assert.equal(again.code, 1);
  assert.match(again.stderr, /exists already, use --force/);
});

test('convert writes every form and names them in its help', async () => {
  const elf = await runCli(['convert', image, path.join(root, 'core'), '--to', 'elf', '--json']);
  const [file] = elf.result.files as { fileBytes: number }[];
  assert.ok((file?.fileBytes ?? 0) > 2 ** 21, `file bytes: ${file?.fileBytes}`);
  assert.equal((await runCli(['convert', image, path.join(root, 'x')])).code, 2);
  const { stdout } = await runCli(['convert', '--help']);
  for (const form of ['mapped-ram', 'raw', 'elf']) assert.match(stdout, new RegExp(`^  ${form} `, 'm'));
});
