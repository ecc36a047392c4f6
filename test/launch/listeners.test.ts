import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import path from 'node:path';
import { test } from 'node:test';
import { MapramError } from '../../src/errors.js';
import { parseCommandLine } from '../../src/launch/command-line.js';
import { assertSocketsFree } from '../../src/launch/listeners.js';
import { failsWith } from '../support/fails-with.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const folder = temporaryFolder('listeners');

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
  await assert.rejects(check(...words), failsWith('BUSY', /serial socket/));
  server.close();
  await once(server, 'close');
  await check(...words);
});

/** Each option with which QEMU would listen on the Unix socket `p`. */
const LISTENING: readonly [string, string][] = [
  ['-qmp', 'unix:p,server=on,wait=off'],
  ['-qmp-pretty', 'unix:p,server,nowait'],
  ['-monitor', 'unix:p,server=y,wait=off'],
  ['-serial', 'mon:unix:p,server=on,wait=off'],
  ['-gdb', 'unix:p,server=on,wait=off'],
  ['-chardev', 'socket,id=c,path=p,server=on,wait=off'],
  ['-vnc', 'unix:p'],
  ['-spice', 'unix=on,addr=p'],
  ['-netdev', 'stream,id=n,server=on,addr.type=unix,addr.path=p'],
  ['-netdev', '{"type":"stream","id":"n","server":true,"addr":{"type":"unix","path":"p"}}'],
  ['-netdev', 'dgram,id=n,local.type=unix,local.path=p,remote.type=unix,remote.path=q'],
  ['-nic', 'stream,server=on,addr.type=unix,addr.path=p'],
];

test('a socket that would replace something else is refused, for every option that listens (F7)', async () => {
  const place = path.join(folder, 'p');
  const makers = [
    () => writeFileSync(place, 'thesis'),
    () => mkdirSync(place),
    () => symlinkSync('elsewhere', place),
  ];
  for (const make of makers) {
    make();
    for (const [option, value] of LISTENING) {
      await assert.rejects(
        check(option, value),
        failsWith('EXISTS', /would replace .*\/p, which is not a socket/),
        value,
      );
    }
    rmSync(place, { recursive: true });
  }
  for (const [option, value] of LISTENING) await check(option, value);
});

test('connecting to a socket replaces nothing, and neither does what it finds (F7)', async () => {
  const file = path.join(folder, 'thesis.txt');
  writeFileSync(file, 'thesis');
  await check(
    '-chardev',
    `socket,id=c,path=${file}`,
    '-netdev',
    `stream,id=n,addr.type=unix,addr.path=${file}`,
  );
  assert.equal(readFileSync(file, 'utf8'), 'thesis');
});
