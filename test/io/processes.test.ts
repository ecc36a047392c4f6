import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import {
  closeSync,
  constants,
  fstatSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import path from 'node:path';
import { describe, test } from 'node:test';
import { readAll, writeAll } from '../../src/io/file/sequential-io.js';
import { createMemfd } from '../../src/io/memory/memfd.js';
import { MemoryMap } from '../../src/io/memory/memory-map.js';
import { reopenDescriptorOf } from '../../src/io/process/process-descriptor.js';
import { ProcessHandle } from '../../src/io/process/process-handle.js';
import { openProcessMapping, parseProcessMaps, readProcessMaps } from '../../src/io/process/process-maps.js';
import { DescriptorListener } from '../../src/io/socket/descriptor-listener.js';
import {
  duplicateBlocking,
  peerCredentials,
  receiveDescriptors,
  sendDescriptors,
  socketPair,
} from '../../src/io/socket/unix-socket.js';
import { failsWith } from '../support/fails-with.js';
import { temporaryFolder } from '../support/temporary-folder.js';

describe('process maps', () => {
  test('parsing: fields, deleted files, pieces joined, other memory left out', () => {
    const text = [
      '55d0c0000000-55d0c0001000 r-xp 00000000 fd:00 42                         /usr/bin/qemu',
      '7f5a40000000-7f5a40200000 rw-s 00001000 00:19 1234                       /dev/shm/a b.ram',
      '7f5a40200000-7f5a40400000 rw-s 00201000 00:19 1234                       /dev/shm/a b.ram',
      '7f5a50000000-7f5a50001000 rw-s 00000000 00:01 77                         /memfd:ram (deleted)',
      '7f5a60000000-7f5a60001000 rw-p 00000000 00:00 0                          [heap]',
      '7f5a70000000-7f5a70001000 rw-p 00000000 00:00 0 ',
      'nonsense',
      '',
    ].join('\n');
    const [code, ram, memfd, ...more] = parseProcessMaps(text);
    assert.deepEqual(more, []);
    assert.equal(code?.shared, false);
    assert.deepEqual(ram, {
      start: 0x7f5a40000000n,
      length: 0x400000,
      readable: true,
      writable: true,
      shared: true,
      offset: 0x1000,
      device: '00:19',
      inode: 1234,
      path: '/dev/shm/a b.ram',
      deleted: false,
    });
    assert.equal(memfd?.path, '/memfd:ram');
    assert.equal(memfd?.deleted, true);
  });

  test('opening what is mapped: by path, after the path was taken over by another file, and memfd', () => {
    const directory = temporaryFolder('test');
    const file = path.join(directory, 'ram');
    writeFileSync(file, Buffer.alloc(8192, 5));
    const fd = openSync(file, 'r+');
    const memfd = createMemfd('mapram-maps', 8192);
    try {
      using _map = MemoryMap.open({ fd, offset: 4096, length: 4096, writable: true });
      using _memory = MemoryMap.open({ fd: memfd, offset: 0, length: 8192, writable: true });
      const find = (name: string) => {
        const found = readProcessMaps(process.pid).find((mapping) => mapping.path.includes(name));
        assert.ok(found, name);
        return found;
      };
      const mapping = find(file);
      assert.equal(mapping.offset, 4096);
      assert.equal(mapping.shared, true);
      const opened = openProcessMapping(process.pid, mapping, constants.O_RDONLY);
      assert.equal(fstatSync(opened).ino, statSync(file).ino);
      closeSync(opened);

      const { ino } = statSync(file);
      unlinkSync(file);
      writeFileSync(file, 'another');
      const again = openProcessMapping(process.pid, mapping, constants.O_RDONLY);
      assert.equal(fstatSync(again).ino, ino);
      closeSync(again);

      const memory = openProcessMapping(process.pid, find('mapram-maps'), constants.O_RDWR);
      assert.equal(fstatSync(memory).ino, fstatSync(memfd).ino);
      closeSync(memory);
      assert.throws(
        () => openProcessMapping(process.pid, { ...mapping, start: 4096n, inode: 1 }, constants.O_RDONLY),
        failsWith('IO'),
      );
    } finally {
      closeSync(fd);
      closeSync(memfd);
      rmSync(directory, { recursive: true });
    }
  });

  test('a path that has come to mean something else is not opened, not even for a look (F1)', () => {
    const directory = temporaryFolder('test');
    const file = path.join(directory, 'ram');
    writeFileSync(file, Buffer.alloc(4096, 5));
    const fd = openSync(file, 'r+');
    try {
      using _map = MemoryMap.open({ fd, offset: 0, length: 4096, writable: true });
      const mapping = readProcessMaps(process.pid).find((found) => found.path === file);
      assert.ok(mapping, 'there is no mapping');
      const { ino } = statSync(file);
      unlinkSync(file);
      // Opening it for reading would wait for a writer.
      execFileSync('mkfifo', [file]);
      const opened = openProcessMapping(process.pid, mapping, constants.O_RDONLY);
      assert.equal(fstatSync(opened).ino, ino);
      closeSync(opened);
    } finally {
      closeSync(fd);
      rmSync(directory, { recursive: true });
    }
  });

  test('descriptors of another process are opened again as they are', () => {
    const directory = temporaryFolder('test');
    const file = path.join(directory, 'file');
    writeFileSync(file, 'content');
    try {
      for (const [mode, access] of [
        ['r', constants.O_RDONLY],
        ['r+', constants.O_RDWR],
      ] as const) {
        const fd = openSync(file, mode);
        const again = reopenDescriptorOf(process.pid, fd);
        assert.equal(fstatSync(again).ino, statSync(file).ino);
        const flags = /^flags:\s*(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${again}`, 'latin1'))?.[1];
        assert.equal(Number.parseInt(flags ?? '', 8) & 3, access);
        closeSync(again);
        closeSync(fd);
      }
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  test('a process that is not there', () => {
    assert.throws(() => readProcessMaps(2 ** 22 + 1), failsWith('IO'));
  });
});

test('a process handle knows when its process has ended', async () => {
  const child = spawn('sleep', ['1000'], { stdio: 'ignore' });
  using handle = ProcessHandle.open(child.pid as number);
  assert.equal(handle.alive, true);
  const taken = handle.takeDescriptor(0);
  assert.equal(fstatSync(taken).isCharacterDevice(), true);
  closeSync(taken);
  const ended = new Promise((resolve) => child.once('exit', (_, signal) => resolve(signal)));
  assert.equal(handle.signal('SIGTERM'), true);
  assert.equal(await ended, 'SIGTERM');
  assert.equal(handle.alive, false);
  assert.equal(handle.signal('SIGTERM'), false);
  assert.throws(() => ProcessHandle.open(2 ** 22 + 1), failsWith('IO'));
});

describe('unix sockets', () => {
  test('descriptors pass between raw sockets; too many are refused and closed', async () => {
    const [left, right] = socketPair();
    const memfd = createMemfd('mapram-pass', 4096);
    try {
      writeSync(memfd, 'shared', 0);
      await sendDescriptors(left, Buffer.from('two'), [memfd, memfd]);
      const { data, fds } = receiveDescriptors(right, 100, 2);
      assert.equal(data.toString(), 'two');
      assert.equal(fds.length, 2);
      for (const fd of fds) {
        const back = Buffer.alloc(6);
        readSync(fd, back, 0, 6, 0);
        assert.equal(back.toString(), 'shared');
        closeSync(fd);
      }
      for (const count of [2, 5]) {
        await sendDescriptors(left, Buffer.from('x'), Array(count).fill(memfd));
        assert.throws(() => receiveDescriptors(right, 100, 1), /more than 1/);
      }
      await assert.rejects(sendDescriptors(left, Buffer.alloc(0), [memfd]), RangeError);
      closeSync(left);
      assert.deepEqual(receiveDescriptors(right, 100, 1), { data: Buffer.alloc(0), fds: [] });
    } finally {
      closeSync(right);
      closeSync(memfd);
    }
  });

  test('credentials and descriptors over sockets of Node, after what was written before', async () => {
    const directory = temporaryFolder('test');
    const server = createServer({ pauseOnConnect: true });
    const memfd = createMemfd('mapram-pass', 4096);
    const socketPath = path.join(directory, 's');
    let client: Socket | undefined;
    try {
      await new Promise<void>((resolve) => server.listen(socketPath, resolve));
      const connection = new Promise<Socket>((resolve) => server.once('connection', resolve));
      client = connect(socketPath);
      const served = await connection;
      assert.deepEqual(peerCredentials(served), {
        pid: process.pid,
        uid: process.getuid?.(),
        gid: process.getgid?.(),
      });
      const receiving = duplicateBlocking(served);
      served.destroy();
      client.write('before');
      await sendDescriptors(client, Buffer.from('with'), [memfd]);
      const first = receiveDescriptors(receiving, 100, 1);
      const rest = first.fds.length === 0 ? receiveDescriptors(receiving, 100, 1) : first;
      assert.equal(first === rest ? first.data.toString() : `${first.data}${rest.data}`, 'beforewith');
      assert.equal(rest.fds.length, 1);
      for (const fd of rest.fds) closeSync(fd);
      closeSync(receiving);
    } finally {
      client?.destroy();
      server.close();
      closeSync(memfd);
      rmSync(directory, { recursive: true });
    }
    assert.throws(() => peerCredentials(client as Socket), /not connected/);
  });

  for (const when of ['early', 'late']) {
    test(`a connection for which no descriptor is left rejects, accepted ${when}, and ends no process (F23)`, () => {
      const script = path.join(import.meta.dirname, 'scarce-descriptors.js');
      const { stdout, stderr } = spawnSync(
        'sh',
        ['-c', 'ulimit -n 64; exec "$0" "$@"', process.execPath, script, when],
        { encoding: 'utf8' },
      );
      assert.match(stdout, /^taking a connection on \/.*: too many open files/, stdout + stderr);
    });
  }

  test('a descriptor listener hands out blocking descriptors from a private place', async () => {
    const listener = await DescriptorListener.open();
    assert.equal(statSync(path.dirname(listener.path)).mode & 0o777, 0o700);
    assert.equal(statSync(listener.path).mode & 0o777, 0o600);
    const client = connect(listener.path);
    const fd = await listener.accept();
    const flags = Number.parseInt(
      /flags:\s*(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'))?.[1] ?? '',
      8,
    );
    assert.equal(flags & constants.O_NONBLOCK, 0);
    assert.notEqual(flags & 0o2000000, 0);
    // Waited for, because this thread blocks in the reads below.
    await new Promise((resolve) => client.write('to the listener', resolve));
    const back = Buffer.alloc(15);
    assert.equal(readAll(fd, back), 15);
    assert.equal(back.toString(), 'to the listener');
    const answer = new Promise<string>((resolve) => client.once('data', (data) => resolve(String(data))));
    writeAll(fd, Buffer.from('answer'));
    assert.equal(await answer, 'answer');
    await new Promise<void>((resolve) => client.end(resolve));
    assert.equal(readAll(fd, Buffer.alloc(4)), 0);
    closeSync(fd);
    client.destroy();

    const controller = new AbortController();
    const cancelled = assert.rejects(listener.accept(controller.signal), failsWith('CANCELLED'));
    controller.abort();
    await cancelled;
    const waiting = assert.rejects(listener.accept(), failsWith('CANCELLED'));
    await listener.close();
    await waiting;
    assert.throws(() => statSync(path.dirname(listener.path)), { code: 'ENOENT' });
  });
});
