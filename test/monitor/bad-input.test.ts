/** Clients that send nonsense, too much, or never read. The monitor goes on, for them or without them. */

import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createConnection, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setImmediate as setImmediately } from 'node:timers/promises';
import { BuiltinGuest } from '../../src/guest/builtin/builtin-guest.js';
import { sendDescriptors } from '../../src/io/socket/unix-socket.js';
import { BuiltinBackend } from '../../src/monitor/builtin-backend.js';
import type { ClientChannel } from '../../src/monitor/client-channel.js';
import { Monitor } from '../../src/monitor/monitor.js';
import { qemuProfile } from '../../src/options/qemu-profile.js';
import { failsWith } from '../support/fails-with.js';
import { temporaryFolder } from '../support/temporary-folder.js';
import { RawClient } from './raw-client.js';

const MAIN = join(import.meta.dirname, '..', '..', 'src', 'cli', 'main.js');

let directory: string;
let socketPath: string;
let guest: BuiltinGuest;
let monitor: Monitor;

before(async () => {
  directory = temporaryFolder('test');
  socketPath = join(directory, 'qmp.sock');
  const profile = qemuProfile('10.0');
  guest = await BuiltinGuest.start({ size: 4 << 20 });
  monitor = new Monitor({ backend: new BuiltinBackend(guest, { profile }), profile });
  await monitor.listenQmp(socketPath);
});

after(async () => {
  await monitor.close();
  rmSync(directory, { recursive: true, force: true });
});

async function connect(): Promise<RawClient> {
  const client = await RawClient.connect(socketPath);
  await client.negotiate();
  return client;
}

async function assertServes(): Promise<void> {
  let client = await connect();
  // While others are still on their way out there may be no room.
  while (client.closed) client = await connect();
  assert.deepEqual(await client.ask('query-status'), { return: { status: 'running', running: true } });
  client.destroy();
}

const MIB = 1 << 20;

test('a request without end is given up, and the client with it', async () => {
  for (const [start, piece] of [
    ['', 'x'],
    ['', '1'],
    ['"', 'x'],
    ["'", '\\"'],
    ['{"execute": "', ' '],
    ['[', '1,'],
    ['', '['],
    ['', '{"a":'],
  ] as const) {
    const client = await connect();
    const { socket } = client;
    const chunk = Buffer.alloc(MIB, piece);
    socket.write(start);
    const closed = new Promise((resolve) => socket.once('close', resolve));
    const push = () => {
      while (!client.closed && socket.write(chunk));
    };
    socket.on('drain', push);
    push();
    await closed;
  }
  await assertServes();
});

test('nesting beyond 1024 is refused as QEMU refuses it', async () => {
  const client = await connect();
  client.send('['.repeat(1025));
  assert.deepEqual(await client.reply(), {
    error: { class: 'GenericError', desc: 'JSON nesting depth limit exceeded' },
  });
  client.destroy();
  await assertServes();
});

test('invalid UTF-8 and control characters get an error, and the next request an answer', async () => {
  const client = await connect();
  for (const bytes of [[0x22, 0xc3, 0x28, 0x22], [0xff], [0x00], [0x22, 0x01]]) {
    client.socket.write(Buffer.from(bytes));
    assert.match(JSON.stringify(await client.reply()), /JSON parse error/);
    client.send('\n');
    assert.ok((await client.ask('query-status'))?.return, 'the connection no longer answers');
  }
  client.destroy();
});

test('pipelined requests are answered in order', async () => {
  const client = await connect();
  const count = 500;
  client.send(Array.from({ length: count }, (_, id) => `{"execute":"query-status","id":${id}}`).join(''));
  for (let id = 0; id < count; id++) assert.equal((await client.reply())?.id, id);
  client.destroy();
});

test('a client that never reads is not read from', async () => {
  let taken = 0;
  let written = 0;
  let over = false;
  let end = () => {};
  const neverRead = new Promise<void>((resolve) => {
    end = resolve;
  });
  const channel: ClientChannel = {
    unsentBytes: 0,
    input: {
      async *[Symbol.asyncIterator]() {
        while (!over) {
          taken++;
          yield { bytes: Buffer.from('{"execute": "qmp_capabilities"}'), descriptors: [] };
        }
      },
    },
    async write() {
      // The greeting is taken, nothing after it.
      if (written++ > 0) await neverRead;
    },
    end() {},
    destroy() {},
  };
  const served = monitor.serveQmp(channel);
  for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve));
  assert.equal(written, 2);
  // Eight wait to be answered, one waits to be queued.
  assert.ok(taken <= 9, `${taken} requests were taken`);
  over = true;
  end();
  await served;
});

test('a client is dropped once too many events wait for it', async () => {
  let destroyed = false;
  let unsentBytes = 0;
  let end = () => {};
  const ended = new Promise<void>((resolve) => {
    end = resolve;
  });
  const channel: ClientChannel = {
    get unsentBytes() {
      return unsentBytes;
    },
    input: {
      async *[Symbol.asyncIterator]() {
        yield { bytes: Buffer.from('{"execute": "qmp_capabilities"}'), descriptors: [] };
        await ended;
      },
    },
    async write() {},
    end() {},
    destroy() {
      destroyed = true;
      end();
    },
  };
  const served = monitor.serveQmp(channel);
  await guest.stop();
  await guest.cont();
  assert.equal(destroyed, false);
  unsentBytes = 9 * MIB;
  await guest.stop();
  assert.equal(destroyed, true);
  await served;
  await guest.cont();
});

/** Opens a thousand connections at once, and closes them. */
async function storm(): Promise<void> {
  const sockets: Socket[] = [];
  for (let count = 0; count < 1000; count++) {
    const socket = createConnection({ path: socketPath });
    socket.on('error', () => {});
    sockets.push(socket);
  }
  await Promise.all(
    sockets.map((socket) => Promise.race([once(socket, 'readable'), once(socket, 'close')]).catch(() => {})),
  );
  const open = sockets.filter((socket) => !socket.destroyed && socket.readable).length;
  assert.ok(open <= 256, `${open} connections are open`);
  assert.equal(guest.runState, 'running');
  await Promise.all(
    sockets.map((socket) => {
      const closed = socket.closed ? Promise.resolve() : once(socket, 'close').catch(() => {});
      socket.destroy();
      return closed;
    }),
  );
}

test('ten thousand connections: 256 are served at a time, the rest turned away', async () => {
  for (let round = 0; round < 10; round++) await storm();
  await assertServes();
});

test('memory stays bounded whatever clients send, and however little they read', async () => {
  const socket = join(directory, 'own.sock');
  const child = spawn(process.execPath, [MAIN, 'monitor', 'builtin:size=1M', '--qmp', socket], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    await once(child.stdout, 'data');
    const client = await RawClient.connect(socket);
    await client.negotiate();
    const before = residentBytes(child, 'VmRSS');
    // Never read from, so that the replies stay where they are.
    const deaf = Array.from({ length: 20 }, () => {
      const open = createConnection({ path: socket });
      open.on('error', () => {});
      open.pause();
      open.write(Buffer.from('{"execute": "qmp_capabilities"}{"execute": "query-qmp-schema"}'.repeat(2000)));
      return open;
    });
    for (let round = 0; round < 10; round++) {
      const endless = createConnection({ path: socket });
      endless.on('error', () => {});
      const closed = new Promise((resolve) => endless.once('close', resolve));
      const push = () => {
        while (!endless.destroyed && endless.write(Buffer.alloc(MIB, '"')));
      };
      endless.on('drain', push);
      endless.on('data', () => {});
      push();
      // It ends, or takes no more; either way others are answered.
      await Promise.race([closed, client.ask('query-status')]);
      endless.destroy();
    }
    for (let round = 0; round < 200; round++) {
      await client.ask('stop');
      await client.ask('cont');
    }
    assert.deepEqual(await client.ask('query-status'), { return: { status: 'running', running: true } });
    const grown = residentBytes(child, 'VmHWM') - before;
    assert.ok(grown < 96 * MIB, `${grown} bytes more`);
    for (const open of deaf) open.destroy();
    client.destroy();
  } finally {
    child.kill();
    await once(child, 'exit');
  }
});

function residentBytes({ pid }: ChildProcess, field: 'VmRSS' | 'VmHWM'): number {
  const status = readFileSync(`/proc/${pid}/status`, 'latin1');
  return Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(status)?.[1]) * 1024;
}

test('descriptors that nobody takes are closed', async () => {
  const before = readdirSync('/proc/self/fd').length;
  const client = await connect();
  for (let round = 0; round < 20; round++) {
    const fd = openSync('/dev/null', 'r');
    await sendDescriptors(client.socket, Buffer.from('{"execute": "query-status"}\n'), [fd, fd, fd]);
    closeSync(fd);
    await client.reply();
  }
  client.destroy();
  await once(client.socket, 'close');
  await assertServes();
  // The connections that have just ended are closed a moment later; one that leaked never is.
  while (readdirSync('/proc/self/fd').length > before + 1) await setImmediately();
});

test('sockets are for this user alone', () => {
  assert.equal(statSync(socketPath).mode & 0o777, 0o600);
});

test('a socket that is listened on is left alone', async () => {
  await assert.rejects(monitor.listenQmp(socketPath), failsWith('BUSY', /another process listens/));
  await assertServes();
});

test('a stale socket is replaced, a file is not', async () => {
  const stale = join(directory, 'stale.sock');
  const server = createServer();
  server.listen(stale);
  await once(server, 'listening');
  // Closing removes the file; a process that was killed leaves it behind.
  const copy = join(directory, 'left.sock');
  renameSync(stale, copy);
  server.close();
  assert.ok(existsSync(copy), `${copy} is missing`);
  const listener = await monitor.listenQmp(copy);
  assert.equal(listener.address, copy);

  const file = join(directory, 'file');
  writeFileSync(file, 'mine');
  await assert.rejects(monitor.listenQmp(file), failsWith('EXISTS'));
});

test('TCP is on loopback unless told otherwise', async () => {
  const listener = await monitor.listenQmp('tcp::0');
  assert.match(listener.address, /^tcp:127\.0\.0\.1:\d+$/);
  const port = Number(listener.address.split(':').at(-1));
  const client = createConnection({ host: '127.0.0.1', port });
  const [greeting] = (await once(client, 'data')) as [Buffer];
  assert.match(greeting.toString(), /^\{"QMP"/);
  client.destroy();
});

test('descriptors that clients leave take a part of what there may be, and go with the last client (F27)', async () => {
  const limited = join(directory, 'limited.sock');
  const words = [MAIN, 'monitor', 'builtin:size=4M', '--qmp', limited, '--json'];
  const child = spawn('sh', ['-c', 'ulimit -n 512; exec "$0" "$@"', process.execPath, ...words], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await once(child.stdout, 'data');
  const greedy = await RawClient.connect(limited);
  await greedy.negotiate();
  const fd = openSync('/dev/null', 'r');
  const leave = async (client: RawClient, request: string) => {
    await sendDescriptors(client.socket, Buffer.from(`${request}\n`), [fd]);
    return await client.reply();
  };
  const kept = { return: 0, error: 0 };
  for (let n = 0; n < 100; n++) {
    for (const request of ['{"execute":"add-fd"}', `{"execute":"getfd","arguments":{"fdname":"n${n}"}}`]) {
      kept['return' in ((await leave(greedy, request)) ?? {}) ? 'return' : 'error']++;
    }
  }
  assert.deepEqual(kept, { return: 128, error: 72 });
  const others = await Promise.all(Array.from({ length: 50 }, () => RawClient.connect(limited)));
  for (const other of others) {
    await other.negotiate();
    assert.ok((await other.ask('query-status'))?.return, 'other connections no longer answer');
  }
  greedy.destroy();
  for (const other of others) other.destroy();
  // Sets go with the last client, named descriptors stay: 64 of each were kept.
  let left: unknown;
  do {
    const late = await RawClient.connect(limited);
    await late.negotiate();
    left = (await late.ask('query-fdsets'))?.return;
    if ((left as unknown[]).length === 0)
      assert.ok((await leave(late, '{"execute":"add-fd"}'))?.return, 'the descriptor was not taken');
    late.destroy();
  } while ((left as unknown[]).length > 0);
  closeSync(fd);
  child.kill();
  await once(child, 'exit');
});

test('a client that asks and never reads does not keep the monitor from ending (R03)', {
  timeout: 60_000,
}, async () => {
  const socket = join(directory, 'ends.sock');
  const child = spawn(process.execPath, [MAIN, 'monitor', 'builtin:size=1M', '--qmp', socket], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    await once(child.stdout, 'data');
    const deaf = createConnection({ path: socket });
    deaf.on('error', () => {});
    deaf.pause();
    deaf.write('{"execute": "qmp_capabilities"}');
    // As much as is taken: then the monitor waits for its reader.
    while (deaf.write('{"execute": "query-qmp-schema"}'.repeat(1000)));
    await (await RawClient.connect(socket)).negotiate();
    const ended = once(child, 'exit');
    child.kill('SIGTERM');
    assert.deepEqual(await ended, [0, null]);
    deaf.destroy();
  } finally {
    child.kill('SIGKILL');
  }
});

test('a monitor ends by two signals at once as well (R03)', { timeout: 120_000 }, async () => {
  for (let round = 0; round < 6; round++) {
    const socket = join(directory, `twice${round}.sock`);
    const child = spawn(process.execPath, [MAIN, 'monitor', 'builtin:size=1M', '--qmp', socket], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    try {
      await once(child.stdout, 'data');
      const ended = once(child, 'exit');
      child.kill('SIGTERM');
      child.kill('SIGINT');
      const [code, signal] = await ended;
      assert.equal(signal, null);
      assert.ok([0, 130, 143].includes(code), `ended with ${code}`);
    } finally {
      child.kill('SIGKILL');
    }
  }
});
