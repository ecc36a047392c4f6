import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { closeFile } from '../../src/io/file/open-file.js';
import { writeAll } from '../../src/io/file/sequential-io.js';
import { openLimitedLog } from '../../src/launch/limited-log.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const folder = temporaryFolder('limited-log');

for (const [name, written, expected] of [
  ['less than', 'a line\n', /^a line\n$/],
  ['as much as', 'x'.repeat(1000), /^x{1000}$/],
  ['more than', 'x'.repeat(1 << 20), /^x{1000}\nmapram: more was written, which is left out\n$/],
] as const) {
  test(`a log that gets ${name} its limit takes all and keeps no more (R06)`, async () => {
    const file = path.join(folder, name);
    const { fd, complete } = openLimitedLog(file, 1000);
    writeAll(fd, Buffer.from(written));
    closeFile(fd);
    // Whoever started the writer may end before it: it does not keep this process alive.
    const alive = setInterval(() => {}, 1000);
    await complete;
    clearInterval(alive);
    assert.match(readFileSync(file, 'latin1'), expected);
  });
}
