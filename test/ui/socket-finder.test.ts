import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { findSockets, globPattern } from '../../src/ui/socket-finder.js';
import { VmList } from '../../src/ui/vm-list.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const root = temporaryFolder('sockets');
const servers: Server[] = [];
const connections = new Set<Socket>();
const at = (...names: string[]): string => path.join(root, ...names);

/** A server that greets with `words`, or says nothing. */
async function listen(name: string, words?: string): Promise<{ connections: number }> {
  const seen = { connections: 0 };
  const server = createServer((socket) => {
    seen.connections += 1;
    connections.add(socket);
    socket.on('error', () => {});
    if (words !== undefined) socket.write(words);
  });
  server.listen(at(name));
  await once(server, 'listening');
  servers.push(server);
  return seen;
}

before(async () => {
  mkdirSync(at('vms'));
  for (const name of ['vms/a.qmp', 'vms/b.qmp', 'vms/.hidden.qmp', 'vms/console.sock']) await listen(name);
  writeFileSync(at('vms', 'file.qmp'), '');
});
after(() => {
  for (const connection of connections) connection.destroy();
  for (const server of servers) server.close();
  rmSync(root, { recursive: true });
});

const found = (...places: string[]) =>
  findSockets(places, false)
    .map(({ path: socket }) => path.relative(at('vms'), socket))
    .sort();

test('sockets are found by path, in directories and by patterns', () => {
  assert.deepEqual(found(at('vms', 'a.qmp')), ['a.qmp']);
  assert.deepEqual(found(at('vms')), ['.hidden.qmp', 'a.qmp', 'b.qmp', 'console.sock']);
  assert.deepEqual(found(at('vms', '*.qmp')), ['a.qmp', 'b.qmp']);
  assert.deepEqual(found(at('vms', '?.qmp'), at('vms', 'a.qmp')), ['a.qmp', 'b.qmp']);
  assert.deepEqual(found(at('vms', 'file.qmp'), at('nowhere'), at('nowhere', '*')), []);
  assert.deepEqual(found(), []);
});

test('a pattern means what it means in a shell', () => {
  for (const [glob, name, matches] of [
    ['*.qmp', 'a.qmp', true],
    ['*.qmp', '.a.qmp', false],
    ['.*', '.a', true],
    ['a?c', 'abc', true],
    ['a?c', 'ac', false],
    ['a.c', 'abc', false],
    ['(a|b)*[x]', '(a|b)1[x]', true],
  ] as const) {
    assert.equal(globPattern(glob).test(name), matches, `${glob} ${name}`);
  }
});

test('what is no monitor in a directory is asked once and left alone, a named one is shown', async () => {
  mkdirSync(at('mixed'));
  const web = await listen('mixed/web.sock', 'HTTP/1.1 400 Bad Request\r\n\r\n');
  await using list = new VmList([at('mixed')], false, () => {});
  await list.refresh();
  await list.refresh();
  assert.deepEqual(list.entries, []);
  assert.equal(web.connections, 1);

  await using named = new VmList([at('mixed', 'web.sock')], false, () => {});
  await named.refresh();
  assert.equal(named.entries[0]?.monitor, 'failed');
  assert.match(named.entries[0]?.message ?? '', /not a QMP server/);
});

test('a monitor that does not greet is busy', async () => {
  await listen('silent.qmp');
  await using list = new VmList([at('silent.qmp')], false, () => {});
  await list.refresh();
  assert.equal(list.entries[0]?.monitor, 'busy');
});
