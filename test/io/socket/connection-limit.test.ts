import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { test } from 'node:test';
import { ConnectionLimit } from '../../../src/io/socket/connection-limit.js';

async function start(limits: { strangers?: number; strangerMs?: number }) {
  const accepted: Socket[] = [];
  const server = createServer((socket) => {
    accepted.push(socket);
    socket.on('error', () => {});
  });
  const limit = new ConnectionLimit(server, limits);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const join = async () => {
    const arrived = once(server, 'connection');
    const client = connect(port, '127.0.0.1').on('error', () => {});
    client.resume();
    await arrived;
    return client;
  };
  return { limit, accepted, server, join };
}

test('the oldest stranger gives way to a new one, those that are known stay (F14)', async () => {
  const { limit, accepted, server, join } = await start({ strangers: 2 });
  const clients = [await join(), await join()];
  limit.know(accepted[0] as Socket);
  clients.push(await join());
  const gone = once(clients[1] as Socket, 'close');
  clients.push(await join());
  await gone;
  assert.deepEqual(
    accepted.map(({ destroyed }) => destroyed),
    [false, true, false, false],
  );
  for (const client of clients) client.destroy();
  server.close();
});

test('a stranger that says nothing, or no end of it, is let go of; one that is known is not (F14)', async () => {
  const { limit, accepted, server, join } = await start({ strangerMs: 1000 });
  const known = await join();
  limit.know(accepted[0] as Socket);
  const silent = await join();
  // Waited for from the start: on a slow machine their time may be over before the next line.
  const silentIsGone = once(silent, 'close');
  const talking = await join();
  const talkingIsGone = once(talking, 'close');
  const chatter = setInterval(() => talking.write('x'), 5);
  await Promise.all([silentIsGone, talkingIsGone]);
  clearInterval(chatter);
  assert.equal(accepted[0]?.destroyed, false);
  known.destroy();
  server.close();
});
