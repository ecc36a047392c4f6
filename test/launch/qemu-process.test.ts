import assert from 'node:assert/strict';
import { rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { QemuProcess } from '../../src/launch/qemu-process.js';
import { temporaryFolder } from '../support/temporary-folder.js';

test('what a QEMU writes to its standard error output is passed on without escape sequences (F8)', async (t) => {
  const folder = temporaryFolder('process');
  const write = process.stderr.write;
  t.after(() => {
    process.stderr.write = write;
    rmSync(folder, { recursive: true });
  });
  const program = path.join(folder, 'qemu');
  writeFileSync(program, "#!/bin/sh\nprintf 'first\\033[2J\\n' >&2\n", { mode: 0o755 });
  let shown = '';
  process.stderr.write = (text: string | Uint8Array) => {
    shown += text;
    return true;
  };
  await using qemu = QemuProcess.start({ program, options: [], terminal: 'inherit' });
  qemu.forwardErrors();
  await qemu.exited;
  process.stderr.write = write;
  assert.equal(shown, 'first\\x1b[2J\n');
});
