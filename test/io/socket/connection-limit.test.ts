import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { ConnectionLimit } from '../../../src/io/socket/connection-limit.js';

/** Resolves when the socket is closed, by an error or without: `once(socket, 'close')` of node:events rejects on an error. */
const closed = (socket: Socket) => new Promise<void>((resolve) => socket.once('close', () => resolve()));

async function start(t: TestContext, limits: { strangers?: number; strangerMs?: number }) {
  const accepted: Socket[] = [];
  const clients: Socket[] = [];
  const server = createServer((socket) => {
    accepted.push(socket);
    socket.on('error', () => {});
  });
  const limit = new ConnectionLimit(server, limits);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  // Also after a failed assertion: an open server would keep the file's process alive until the runner's timeout.
  t.after(() => {
    for (const client of clients) client.destroy();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  const join = async () => {
    const arrived = once(server, 'connection');
    const client = connect(port, '127.0.0.1').on('error', () => {});
    client.resume();
    clients.push(client);
    await arrived;
    return client;
  };
  return { limit, accepted, join };
}

test('the oldest stranger gives way to a new one, those that are known stay (F14)', async (t) => {
  const { limit, accepted, join } = await start(t, { strangers: 2 });
  const clients = [await join(), await join()];
  limit.know(accepted[0] as Socket);
  clients.push(await join());
  const gone = closed(clients[1] as Socket);
  clients.push(await join());
  await gone;
  assert.deepEqual(
    accepted.map(({ destroyed }) => destroyed),
    [false, true, false, false],
  );
});

test('a stranger that says nothing, or no end of it, is let go of; one that is known is not (F14)', async (t) => {
  const { limit, accepted, join } = await start(t, { strangerMs: 1000 });
  await join();
  limit.know(accepted[0] as Socket);
  const silent = await join();
  // Waited for from the start: on a slow machine their time may be over before the next line.
  const silentIsGone = closed(silent);
  const talking = await join();
  const talkingIsGone = closed(talking);
  const chatter = setInterval(() => talking.write('x'), 5);
  t.after(() => clearInterval(chatter));
  await Promise.all([silentIsGone, talkingIsGone]);
  assert.equal(accepted[0]?.destroyed, false);
});
