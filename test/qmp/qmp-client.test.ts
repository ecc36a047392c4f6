import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { QmpClient } from '../../src/qmp/qmp-client.js';
import { failsWith } from '../support/fails-with.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const GREETING =
  '{"QMP": {"version": {"qemu": {"micro": 2, "minor": 0, "major": 10}, "package": "test"}, "capabilities": ["oob"]}}\r\n';

type Request = { execute: string; arguments?: unknown; id: number };

/** A server that greets and hands every request to `answer`. */
async function serve(
  t: TestContext,
  answer: (request: Request, socket: Socket) => void,
  greeting = GREETING,
): Promise<string> {
  const directory = temporaryFolder('test');
  const sockets = new Set<Socket>();
  const server: Server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    socket.write(greeting);
    let text = '';
    socket.on('data', (chunk) => {
      text += chunk;
      for (let end = text.indexOf('\n'); end !== -1; end = text.indexOf('\n')) {
        const request = JSON.parse(text.slice(0, end)) as Request;
        text = text.slice(end + 1);
        if (request.execute === 'qmp_capabilities') socket.write(`{"return": {}, "id": ${request.id}}\r\n`);
        else answer(request, socket);
      }
    });
  });
  const path = join(directory, 'qmp.sock');
  await new Promise<void>((resolve) => server.listen(path, resolve));
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
    rmSync(directory, { recursive: true, force: true });
  });
  return path;
}

test('greets, negotiates and matches replies by id, whatever their order', async (t) => {
  const waiting: Request[] = [];
  const path = await serve(t, (request, socket) => {
    waiting.push(request);
    if (waiting.length < 3) return;
    for (const { execute, id } of waiting.reverse()) {
      socket.write(`{"return": {"was": "${execute}"}, "id": ${id}}\r\n`);
    }
  });
  await using client = await QmpClient.connect(path);
  assert.deepEqual(client.version, { qemu: { major: 10, minor: 0, micro: 2 }, package: 'test' });
  const replies = await Promise.all(['a', 'b', 'c'].map((command) => client.execute(command)));
  assert.deepEqual(replies, [{ was: 'a' }, { was: 'b' }, { was: 'c' }]);
});

test('an error reply rejects with its class and text', async (t) => {
  const path = await serve(t, ({ id }, socket) =>
    socket.write(`{"id": ${id}, "error": {"class": "CommandNotFound", "desc": "no such thing"}}\r\n`),
  );
  await using client = await QmpClient.connect(path);
  await assert.rejects(client.execute('bogus'), {
    name: 'QmpError',
    code: 'QMP',
    errorClass: 'CommandNotFound',
    description: 'no such thing',
    message: 'QEMU refused bogus: no such thing',
  });
});

test('64-bit integers arrive intact, doubles as numbers', async (t) => {
  const path = await serve(t, ({ id }, socket) =>
    socket.write(`{"return": {"big": 18446744073709551615, "small": 7, "mbps": 1.5}, "id": ${id}}\r\n`),
  );
  await using client = await QmpClient.connect(path);
  assert.deepEqual(await client.execute('x'), { big: 18446744073709551615n, small: 7, mbps: 1.5 });
});

test('a connection closed in the middle names the command that was pending', async (t) => {
  const path = await serve(t, (_, socket) => socket.destroy());
  await using client = await QmpClient.connect(path);
  const events = client.events();
  const next = events.next();
  next.catch(() => {});
  await assert.rejects(
    client.execute('query-migrate'),
    failsWith('MONITOR', /^query-migrate got no answer: .*closed the connection/),
  );
  await assert.rejects(next, failsWith('MONITOR'));
  await assert.rejects(client.execute('stop'), { message: /^stop got no answer/ });
  assert.equal(client.closed, true);
});

test('event iterators see every event in order, and end with close()', async (t) => {
  const path = await serve(t, ({ id }, socket) => {
    for (const status of ['setup', 'active', 'completed']) {
      socket.write(
        `{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "MIGRATION", "data": {"status": "${status}"}}\r\n` +
          `{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "STOP"}\r\n`,
      );
    }
    socket.write(`{"return": {}, "id": ${id}}\r\n`);
  });
  const client = await QmpClient.connect(path);
  const all = client.events();
  const migration = client.events({ names: ['MIGRATION'] });
  await client.execute('migrate');
  await client.close();
  const names: string[] = [];
  for await (const { event } of all) names.push(event);
  assert.deepEqual(names, ['MIGRATION', 'STOP', 'MIGRATION', 'STOP', 'MIGRATION', 'STOP']);
  const statuses: unknown[] = [];
  for await (const { data } of migration) statuses.push(data?.status);
  assert.deepEqual(statuses, ['setup', 'active', 'completed']);
});

test('a signal or a time-out stops waiting, and a late reply disturbs nobody', async (t) => {
  let held: (() => void) | undefined;
  const path = await serve(t, ({ execute, id }, socket) => {
    const reply = () => socket.write(`{"return": {"was": "${execute}"}, "id": ${id}}\r\n`);
    if (execute === 'slow') held = reply;
    else {
      held?.();
      reply();
    }
  });
  await using client = await QmpClient.connect(path);
  await assert.rejects(
    client.execute('slow', undefined, { timeoutMs: 1 }),
    failsWith('MONITOR', /^slow got no answer .* within 1 ms$/),
  );
  const controller = new AbortController();
  const aborted = client.execute('slow', undefined, { signal: controller.signal });
  controller.abort(new Error('enough'));
  await assert.rejects(aborted, { message: 'enough' });
  assert.deepEqual(await client.execute('quick'), { was: 'quick' });
});

test('a human monitor is told from a QMP server', async (t) => {
  const path = await serve(t, () => {}, "QEMU 10.0.2 monitor - type 'help' for more information\r\n(qemu) ");
  await assert.rejects(QmpClient.connect(path), failsWith('MONITOR', /human monitor/));
});

test('anything else that greets otherwise is refused', async (t) => {
  const path = await serve(t, () => {}, 'SSH-2.0-OpenSSH_9.2\r\n');
  await assert.rejects(QmpClient.connect(path), failsWith('MONITOR', /is not a QMP server/));
});

test('a server that says nothing is given up in time', async (t) => {
  const path = await serve(t, () => {}, '');
  await assert.rejects(QmpClient.connect(path, { timeoutMs: 20 }), failsWith('BUSY', /one client at a time/));
});

test('no socket, and nobody behind it', async (t) => {
  const path = await serve(t, () => {});
  await assert.rejects(QmpClient.connect(`${path}.missing`), failsWith('MONITOR', /there is no such socket/));
  await assert.rejects(
    QmpClient.connect('tcp:127.0.0.1:1'),
    failsWith('MONITOR', /tcp:127.0.0.1:1: nobody listens/),
  );
});

test('many commands at once wait for one signal with one listener, which goes with the client', async (t) => {
  const path = await serve(t, () => {});
  const abort = new AbortController();
  const client = await QmpClient.connect(path);
  client.setPatience({ signal: abort.signal });
  const waits = Array.from({ length: 100 }, (_, n) => client.execute(`c${n}`));
  assert.equal(getEventListeners(abort.signal, 'abort').length, 1);
  abort.abort(new Error('enough'));
  for (const wait of waits) await assert.rejects(wait, /enough/);
  await client.close();
  assert.equal(getEventListeners(abort.signal, 'abort').length, 0);
});
