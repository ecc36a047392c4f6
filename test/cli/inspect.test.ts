import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { writeBuiltinImage } from '../snapshot/builtin-image.js';
import { writeLaunchFile } from '../support/launch-file.js';
import { temporaryFolder } from '../support/temporary-folder.js';
import { runCli } from './run-cli.js';

const root = temporaryFolder('inspect');
const file = path.join(root, 'vm.img');

test('inspect shows a table of the blocks', async () => {
  const [written = 0] = await writeBuiltinImage(file);
  const { code, stdout, stderr } = await runCli(['inspect', file]);
  assert.deepEqual([code, stderr], [0, '']);
  assert.match(stdout, /^machine: +mapram-builtin-1\.0$/m);
  assert.match(stdout, /^complete: +yes$/m);
  assert.match(stdout, /^saved: +not by mapram, or converted since/m);
  assert.match(
    stdout,
    new RegExp(
      `^builtin\\.ram +1 MiB +0x[0-9a-f]+ +0x100000 +${written * 4} KiB +\\d+ % +0 B +0x100000-0x1fffff$`,
      'm',
    ),
  );
  assert.doesNotMatch(stdout, /clock_ns/);
});

test('inspect --devices shows every field', async () => {
  await writeBuiltinImage(file, { ticks: 100 });
  const { stdout } = await runCli(['inspect', '--devices', file]);
  assert.match(
    stdout,
    /^timer {2}instance 0, version 2, 24 bytes\n {2}clock_ns: 1000000000 \(0x3b9aca00\)$/m,
  );
  assert.match(stdout, /^ {2}tick: 1010000000 ns$/m);
  assert.match(stdout, /^ {2}regs: \[/m);
  assert.match(
    stdout,
    /^ {2}builtin-serial\/fifo {2}subsection, version 1\n {4}data: [0-9a-f]{32}\n {4}used: 9$/m,
  );
  assert.match(stdout, /^ {2}checksum:\n {4}xor: \d+/m);
});

test('inspect --json has the fields of the contract', async () => {
  await writeBuiltinImage(file);
  const { code, result } = await runCli(['inspect', file, '--json']);
  assert.equal(code, 0);
  const blocks = result.blocks as Record<string, unknown>[];
  assert.deepEqual(Object.keys(blocks[0] ?? {}), [
    'idstr',
    'usedLength',
    'pagesOffset',
    'bitmapOffset',
    'normalPages',
    'stalePages',
  ]);
  for (const name of [
    'container',
    'machine',
    'capabilities',
    'pageSize',
    'complete',
    'devices',
    'manifest',
  ]) {
    assert.ok(name in result, name);
  }
  const devices = result.devices as Record<string, unknown>[];
  const { position, ...first } = devices[0] ?? {};
  assert.deepEqual(first, { idstr: 'timer', instanceId: 0, version: 2, length: 24 });
  assert.equal(typeof position, 'number');
  const { result: full } = await runCli(['inspect', file, '--json', '--devices']);
  const [timer] = full.devices as Record<string, unknown>[];
  assert.deepEqual(timer?.fields, { clock_ns: 0, unused: '0000000000000000', tick: 10_000_000 });
});

test('a cut file is shown as far as it goes, with exit code 1', async () => {
  await writeBuiltinImage(file);
  truncateSync(file, 3 * 2 ** 20);
  const plain = await runCli(['inspect', file]);
  assert.equal(plain.code, 1);
  assert.match(plain.stdout, /^complete: +NO/m);
  assert.match(plain.stderr, /^mapram: inspecting .*vm\.img: .*\n$/);
  const { code, result } = await runCli(['inspect', file, '--json']);
  assert.deepEqual([code, result.complete], [1, false]);
});

test('a foreign file is named, with exit code 1', async () => {
  const foreign = path.join(root, 'foreign');
  writeFileSync(foreign, '{"a": 1}');
  const { code, stdout, stderr } = await runCli(['inspect', foreign, '--json']);
  assert.equal(code, 1);
  assert.match(stderr, /^mapram: opening .*foreign: it is a JSON file, not a migration stream; .*\n$/);
  assert.match(stdout, /"error":\{"code":"FORMAT"/);
});

test('inspect says when, by whom and how a VM was saved and started; verify says what it has looked at', async () => {
  const saved = path.join(root, 'launched.mapram');
  const disks = [{ path: '/srv/a.img', size: 2 ** 20, mtimeMs: 1, readOnly: false, format: 'raw' }];
  await writeLaunchFile(saved, '/usr/bin/qemu-system-x86_64', { launch: { disks, user: 'alice' } });
  const { stdout } = await runCli(['inspect', saved]);
  assert.match(stdout, /^saved: +20\d\d-.*T.*Z, .* of alice, by mapram /m);
  assert.match(stdout, /^started as: +\/usr\/bin\/qemu-system-x86_64 /m);
  assert.match(stdout, /^disk: +\/srv\/a\.img, raw, 1 MiB$/m);
  const key = path.join(root, 'key.pub');
  const { publicKey } = generateKeyPairSync('ed25519');
  writeFileSync(key, publicKey.export({ type: 'spki', format: 'pem' }));
  const foreign = path.join(root, 'foreign.img');
  await writeBuiltinImage(foreign);
  for (const [args, words] of [
    [[saved], /: sound: structure, memory and device state are as they were saved$/m],
    [[saved, '--structure'], /: structure sound; its memory was not read$/m],
    [[foreign], /: structure sound; its memory cannot be checked$/m],
    [[saved, '--require-signature', key], /: NOT ACCEPTED$/m],
  ] as const) {
    assert.match((await runCli(['verify', ...args])).stdout, words, args.join(' '));
  }
});
