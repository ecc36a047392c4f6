/** The builtin guest migrates as a stream, over every kind of address, and lives on where it arrives. */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { openSavedVm } from '../../src/analysis/open-saved-vm.js';
import { BuiltinGuest } from '../../src/guest/builtin/builtin-guest.js';
import { releaseFiles } from '../../src/io/file/open-file.js';
import { openPipe } from '../../src/io/socket/pipe.js';
import { socketPair } from '../../src/io/socket/unix-socket.js';
import type { JsonObject } from '../../src/json/json-value.js';
import { BuiltinBackend } from '../../src/monitor/builtin-backend.js';
import { Monitor } from '../../src/monitor/monitor.js';
import { type ProfileName, qemuProfile } from '../../src/options/qemu-profile.js';
import type { MigrationInfo } from '../../src/qmp/qmp-commands.js';
import { convertToMappedRam } from '../../src/snapshot/convert/convert-mapped-ram.js';
import { inspect } from '../../src/snapshot/inspect/inspect.js';
import { temporaryFolder } from '../support/temporary-folder.js';
import { RawClient } from './raw-client.js';

const MIB = 2 ** 20;
let folder: string;

before(() => {
  folder = temporaryFolder('test');
});

const fileIn = (name: string) => join(folder, name);

/** A builtin guest behind a monitor. */
class Machine implements AsyncDisposable {
  private constructor(
    readonly guest: BuiltinGuest,
    readonly monitor: Monitor,
  ) {}

  static async start(
    begin: 'running' | 'incoming' | 'paused',
    speakAs: ProfileName = '10.0',
  ): Promise<Machine> {
    // It rewrites more than there is between two passes, so that pages go out more than once.
    const guest = await BuiltinGuest.start({ size: 16 * MIB, dirtyRate: 32 * MIB, blocks: 2, begin });
    const profile = qemuProfile(speakAs);
    const backend = new BuiltinBackend(guest, { profile, paused: begin === 'paused' });
    return new Machine(guest, new Monitor({ backend, profile }));
  }

  execute(command: string, args: JsonObject = {}, fd?: number): Promise<unknown> {
    return this.monitor.execute(command, args, fd === undefined ? {} : { takeDescriptor: () => fd });
  }

  /** @param options parameters by name; `multifd` and other capabilities as `true` */
  async set({ capabilities = {}, ...parameters }: JsonObject): Promise<void> {
    const list = Object.entries(capabilities as JsonObject).map(([capability, state]) => ({
      capability,
      state,
    }));
    await this.execute('migrate-set-capabilities', { capabilities: list });
    await this.execute('migrate-set-parameters', parameters);
  }

  async until(...statuses: string[]): Promise<MigrationInfo> {
    for (;;) {
      const info = (await this.execute('query-migrate')) as MigrationInfo;
      if (statuses.includes(info.status ?? 'none')) return info;
      assert.ok(
        !['completed', 'failed', 'cancelled'].includes(info.status ?? ''),
        `the migration is ${info.status}: ${info['error-desc']}`,
      );
      await sleep(5);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.monitor.close();
  }
}

/** What arrived is what was sent, and goes on counting. */
async function assertLivesOn(source: Machine, destination: Machine): Promise<void> {
  await destination.until('completed');
  await source.until('completed');
  const { status } = (await source.execute('query-status')) as JsonObject;
  assert.equal(status, 'postmigrate');
  assert.equal(destination.guest.runState, 'running');
  const { ticks } = source.guest;
  while (destination.guest.ticks < ticks + 5) await sleep(5);
  await destination.execute('stop');
  const { ok, actual, expected } = await destination.guest.checkMemory();
  assert.ok(ok, `checksum ${actual} instead of ${expected}`);
}

const MULTIFD = { capabilities: { multifd: true }, 'multifd-channels': 3 };

/** Over sockets both sides are there at the same time. */
const SOCKETS: Record<string, { uri: () => string; options?: JsonObject; speakAs?: ProfileName }> = {
  'a Unix socket': { uri: () => `unix:${fileIn('a.sock')}` },
  'a Unix socket as 7.2': { uri: () => `unix:${fileIn('a.sock')}`, speakAs: '7.2' },
  'a Unix socket and multifd': { uri: () => `unix:${fileIn('a.sock')}`, options: MULTIFD },
  'multifd as 7.2': { uri: () => `unix:${fileIn('a.sock')}`, options: MULTIFD, speakAs: '7.2' },
  'multifd, zlib': {
    uri: () => `unix:${fileIn('a.sock')}`,
    options: { ...MULTIFD, 'multifd-compression': 'zlib', 'multifd-zlib-level': 4 },
  },
  'multifd, zstd': {
    uri: () => `unix:${fileIn('a.sock')}`,
    options: { ...MULTIFD, 'multifd-compression': 'zstd' },
  },
  'multifd, zero pages on the main channel': {
    uri: () => `unix:${fileIn('a.sock')}`,
    options: { ...MULTIFD, 'zero-page-detection': 'legacy' },
  },
  'multifd, zero pages as pages': {
    uri: () => `unix:${fileIn('a.sock')}`,
    options: { ...MULTIFD, 'zero-page-detection': 'none' },
  },
  'TCP and multifd': { uri: () => 'tcp:127.0.0.1:0', options: MULTIFD },
};

describe('from one builtin guest to another', () => {
  for (const [name, { uri, options = {}, speakAs = '10.0' }] of Object.entries(SOCKETS)) {
    test(`over ${name}`, async () => {
      await using destination = await Machine.start('incoming', speakAs);
      await destination.set(options);
      await destination.execute('migrate-incoming', { uri: uri() });
      const { 'socket-address': addresses } = (await destination.execute('query-migrate')) as MigrationInfo;
      const [address] = addresses ?? [];
      await using source = await Machine.start('running', speakAs);
      await source.set(options);
      const target = address?.port === undefined ? uri() : `tcp:127.0.0.1:${address.port}`;
      await source.execute('migrate', { uri: target });
      await assertLivesOn(source, destination);
      const { ram } = (await source.execute('query-migrate')) as MigrationInfo;
      assert.equal(ram?.remaining, 0);
      const packets = Number(ram?.['multifd-bytes']);
      assert.equal(packets > 0, options === MULTIFD || 'multifd-channels' in options);
      const compressed = 'multifd-compression' in options;
      if (packets > 0) assert.equal(packets < Number(ram?.['normal-bytes']), compressed);
      assert.equal(existsSync(fileIn('a.sock')), false);
    });
  }

  test('over a socket and a pipe that were passed in', async () => {
    const pipe = openPipe();
    const [one, other] = socketPair();
    for (const [out, back] of [
      [one, other],
      [pipe.writeEnd, pipe.readEnd],
    ] as const) {
      await using destination = await Machine.start('incoming');
      await using source = await Machine.start('running');
      await source.execute('getfd', { fdname: 'out' }, out);
      await destination.execute('getfd', { fdname: 'in' }, back);
      await destination.execute('migrate-incoming', { uri: 'fd:in' });
      await source.execute('migrate', { uri: 'fd:out' });
      await assertLivesOn(source, destination);
    }
  });
});

/** What `migrate` and, later, `migrate-incoming` are told. */
const FILES: Record<string, { out: () => JsonObject; back: () => JsonObject }> = {
  'a file': {
    out: () => ({ uri: `file:${fileIn('stream')}` }),
    back: () => ({ uri: `file:${fileIn('stream')}` }),
  },
  'a file behind an offset': {
    out: () => ({ uri: `file:${fileIn('stream')},offset=0x1001` }),
    back: () => channel({ transport: 'file', filename: fileIn('stream'), offset: 0x1001 }),
  },
  commands: {
    out: () => ({ uri: `exec:gzip -1 > ${fileIn('stream.gz')}` }),
    back: () => channel({ transport: 'exec', args: ['/bin/gzip', '-dc', fileIn('stream.gz')] }),
  },
};

function channel(addr: JsonObject): JsonObject {
  return { channels: [{ 'channel-type': 'main', addr }] };
}

test('a background snapshot is a picture of one moment, and the guest goes on', async () => {
  for (const mappedRam of [false, true]) {
    const uri = `file:${fileIn('background')}`;
    await using source = await Machine.start('running');
    await source.set({ capabilities: { 'background-snapshot': true, 'mapped-ram': mappedRam } });
    await source.execute('migrate', { uri });
    await source.until('completed');
    const { status } = (await source.execute('query-status')) as JsonObject;
    assert.equal(status, 'running');
    const { ticks } = source.guest;
    while (source.guest.ticks < ticks + 5) await sleep(5);
    await using destination = await Machine.start('incoming');
    await destination.set({ capabilities: { 'mapped-ram': mappedRam } });
    await destination.execute('migrate-incoming', { uri });
    await destination.until('completed');
    const loaded = destination.guest.ticks;
    while (destination.guest.ticks < loaded + 5) await sleep(5);
    await destination.execute('stop');
    assert.ok((await destination.guest.checkMemory()).ok, 'the memory of the destination is damaged');
    await source.execute('stop');
    assert.ok((await source.guest.checkMemory()).ok, 'the memory of the source is damaged');
  }
});

describe('into a file, and from it', () => {
  for (const [name, { out, back }] of Object.entries(FILES)) {
    test(name, async () => {
      writeFileSync(fileIn('stream'), Buffer.alloc(64 * MIB, 0xa5));
      await using source = await Machine.start('running');
      await source.execute('migrate', out());
      await source.until('completed');
      await using destination = await Machine.start('incoming');
      await destination.execute('migrate-incoming', back());
      await assertLivesOn(source, destination);
    });
  }

  test('mapram reads it, and makes a mapped-ram file of it that loads', async () => {
    const file = fileIn('plain');
    await using source = await Machine.start('running');
    await source.execute('migrate', { uri: `file:${file}` });
    await source.until('completed');
    assert.equal(statSync(file).mode & 0o777, 0o600);
    const found = await inspect({ file });
    assert.equal(found.complete, true);
    assert.deepEqual(found.problems, []);
    assert.deepEqual(
      found.devices.map(({ idstr }) => idstr),
      ['timer', 'cpu', 'serial', 'memory', 'globalstate'],
    );
    const mapped = fileIn('mapped');
    {
      await using saved = await openSavedVm(file);
      await convertToMappedRam.convert(saved, { output: mapped });
    }
    await using destination = await Machine.start('incoming');
    await destination.set({ capabilities: { 'mapped-ram': true } });
    await destination.execute('migrate-incoming', { uri: `file:${mapped}` });
    await assertLivesOn(source, destination);
  });

  test('the command line loads what it is told to', async () => {
    await using source = await Machine.start('running');
    await source.execute('migrate', { uri: `file:${fileIn('told')}` });
    await source.until('completed');
    const main = join(import.meta.dirname, '..', '..', 'src', 'cli', 'main.js');
    const socket = fileIn('cli.sock');
    const args = [
      'monitor',
      'builtin:size=16M,blocks=2',
      '--incoming',
      `file:${fileIn('told')}`,
      '--qmp',
      socket,
    ];
    const child = spawn(process.execPath, [main, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
    const exited = once(child, 'exit');
    await once(child.stdout, 'data');
    const client = await RawClient.connect(socket);
    await client.negotiate();
    const status = async () =>
      ((await client.ask('query-migrate'))?.return as MigrationInfo | undefined)?.status;
    while ((await status()) !== 'completed') await sleep(5);
    assert.deepEqual(await client.ask('query-status'), { return: { status: 'running', running: true } });
    await client.ask('quit');
    assert.deepEqual(await exited, [0, null]);
  });

  test('a stopped guest stays stopped where it is loaded', async () => {
    await using source = await Machine.start('paused');
    await source.execute('migrate', { uri: `file:${fileIn('paused')}` });
    await source.until('completed');
    await using destination = await Machine.start('incoming');
    await destination.execute('migrate-incoming', { uri: `file:${fileIn('paused')}` });
    await destination.until('completed');
    assert.deepEqual(await destination.execute('query-status'), { status: 'paused', running: false });
  });
});

describe('what goes wrong', () => {
  test('a command that fails at the end has not saved: the guest goes on', async () => {
    await using source = await Machine.start('running');
    await source.execute('migrate', { uri: 'exec:cat > /dev/null; exit 3' });
    const info = await source.until('failed');
    assert.equal(info['error-desc'], 'Unable to write to command: it ended with exit status 3');
    assert.equal(source.guest.runState, 'running');
  });

  test('a cancelled migration lets go of a pipe that nobody reads, and of a command that hangs', async () => {
    const { readEnd, writeEnd } = openPipe();
    await using source = await Machine.start('running');
    await source.execute('getfd', { fdname: 'out' }, writeEnd);
    for (const uri of ['fd:out', `exec:echo $$ > ${fileIn('pid')}; exec sleep 1000`]) {
      await source.execute('migrate', { uri });
      await source.until('active');
      if (uri.startsWith('exec')) while (!existsSync(fileIn('pid'))) await sleep(5);
      await source.execute('migrate_cancel');
      await source.until('cancelled');
      assert.equal(source.guest.runState, 'running');
    }
    releaseFiles([readEnd]);
    const pid = Number(readFileSync(fileIn('pid'), 'utf8'));
    while (isAlive(pid)) await sleep(5);
  });

  test('nothing goes out in the clear where TLS was asked for', async () => {
    await using source = await Machine.start('running');
    await source.set({ 'tls-creds': 'tls0' });
    await source.execute('migrate', { uri: `file:${fileIn('secret')}` });
    const info = await source.until('failed');
    assert.equal(info['error-desc'], "No TLS credentials with id 'tls0'");
    assert.equal(statSync(fileIn('secret')).size, 0);
  });

  test('a monitor that ends takes its socket with it, and a load that waits', async () => {
    for (const uri of [`unix:${fileIn('waiting')}`, 'exec:sleep 1000', 'tcp::0']) {
      await using destination = await Machine.start('incoming');
      await destination.execute('migrate-incoming', { uri });
      if (uri.startsWith('unix')) assert.equal(statSync(fileIn('waiting')).mode & 0o777, 0o600);
      if (uri.startsWith('tcp')) {
        const { 'socket-address': [address] = [] } = (await destination.execute(
          'query-migrate',
        )) as MigrationInfo;
        assert.equal(address?.host, '127.0.0.1');
      }
    }
    assert.equal(existsSync(fileIn('waiting')), false);
  });

  test('a socket that somebody listens on, and a file, are left alone', async () => {
    await using first = await Machine.start('incoming');
    const uri = `unix:${fileIn('taken')}`;
    await first.execute('migrate-incoming', { uri });
    writeFileSync(fileIn('file'), 'mine');
    for (const taken of [uri, `unix:${fileIn('file')}`]) {
      await using second = await Machine.start('incoming');
      await assert.rejects(second.execute('migrate-incoming', { uri: taken }), { code: /BUSY|EXISTS/ });
    }
    assert.equal(readFileSync(fileIn('file'), 'utf8'), 'mine');
  });

  test('a stream that ends too early, and one of another machine, fail the load and name the kind', async () => {
    const file = fileIn('cut');
    await using source = await Machine.start('paused');
    await source.execute('migrate', { uri: `file:${file}` });
    await source.until('completed');
    const whole = readFileSync(file);
    const other = Buffer.from(whole);
    other.write('mapram-builtin-9', whole.indexOf('mapram-builtin-1'));
    for (const [bytes, kind] of [
      [whole.subarray(0, 4), 'Operation not supported'],
      [whole.subarray(0, whole.length >> 1), 'Invalid argument'],
      [other, 'Invalid argument'],
      [Buffer.alloc(0), 'Invalid argument'],
    ] as const) {
      writeFileSync(file, bytes);
      await using destination = await Machine.start('incoming');
      await destination.execute('migrate-incoming', { uri: `file:${file}`, 'exit-on-error': false });
      const info = await destination.until('failed');
      assert.equal(info['error-desc'], `load of migration failed: ${kind}`);
    }
  });
});

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'latin1'));
  } catch {
    return false;
  }
}
