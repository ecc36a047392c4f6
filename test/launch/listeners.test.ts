import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { MapramError } from '../../src/errors.js';
import { parseCommandLine } from '../../src/launch/command-line.js';
import { assertSocketsFree } from '../../src/launch/listeners.js';

const folder = mkdtempSync(path.join(os.tmpdir(), 'mapram-listeners-'));
after(() => rmSync(folder, { recursive: true, force: true }));

const check = (...words: string[]) => assertSocketsFree(parseCommandLine(words), folder);

test('a socket is refused when it is given twice, however it is written', async () => {
  const words = ['-qmp', 'unix:a.sock,server,nowait', '-monitor', `unix:${folder}/./a.sock,server,nowait`];
  await assert.rejects(
    check(...words),
    (error) =>
      error instanceof MapramError &&
      error.code === 'USAGE' &&
      error.message.includes(`the socket ${folder}/a.sock is given twice (monitor)`),
  );
  await check('-qmp', 'unix:a.sock,server,nowait', '-monitor', 'unix:b.sock,server,nowait');
});

test('a socket is refused while somebody listens there, not for being left behind', async () => {
  const socket = path.join(folder, 'busy.sock');
  const server = createServer().listen(socket);
  await once(server, 'listening');
  const words = ['-serial', `unix:${socket},server=on,wait=off`];
  await assert.rejects(
    check(...words),
    (error) => error instanceof MapramError && error.code === 'BUSY' && /serial socket/.test(error.message),
  );
  server.close();
  await once(server, 'close');
  await check(...words);
});
