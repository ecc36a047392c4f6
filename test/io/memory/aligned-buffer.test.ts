import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { alignedBuffer } from '../../../src/io/memory/aligned-buffer.js';
import { native } from '../../../src/io/native.js';
import { temporaryFolder } from '../../support/temporary-folder.js';

test('a buffer begins at a multiple of 64 KiB, has its length, and is zeroed (F25)', () => {
  for (const length of [1, 4096, 65_535, 4 << 20]) {
    const buffer = alignedBuffer(length);
    assert.equal(native().address(buffer) % 65_536n, 0n);
    assert.equal(buffer.length, length);
    assert.ok(
      buffer.every((byte) => byte === 0),
      'the buffer is not zero',
    );
  }
});

test('a save needs little more address space than Node.js itself (F25)', () => {
  const peak = "console.log(/^VmPeak:\\s+(\\d+)/m.exec(fs.readFileSync('/proc/self/status', 'utf8'))[1])";
  const alone = Number(spawnSync(process.execPath, ['-e', peak], { encoding: 'utf8' }).stdout);
  const main = path.join(import.meta.dirname, '..', '..', '..', 'src', 'cli', 'main.js');
  const folder = temporaryFolder('space');
  try {
    // Two channels and the guest are three threads. WebAssembly memories would take 8 GiB each.
    const kibibytes = alone + 1536 * 1024;
    const words = ['save', 'builtin:size=8M', path.join(folder, 'vm'), '--channels', '2', '--json'];
    const { status, stdout, stderr } = spawnSync(
      'sh',
      ['-c', `ulimit -v ${kibibytes}; exec "$0" "$@"`, process.execPath, main, ...words],
      { encoding: 'utf8' },
    );
    assert.equal(status, 0, stdout + stderr);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
