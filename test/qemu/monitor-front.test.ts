/** The monitor in front of real QEMUs: what it serves, what it passes through, and what happens when somebody goes away. */

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { closeSync, constants, openSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { sendDescriptors } from '../../src/io/socket/unix-socket.js';
import type { JsonObject } from '../../src/json/json-value.js';
import { checkImage } from '../../src/mapped-ram/check-image.js';
import { MappedRamImage } from '../../src/mapped-ram/image.js';
import type { Monitor } from '../../src/monitor/monitor.js';
import { monitorInFrontOf } from '../../src/monitor/open-monitor.js';
import { RawClient } from '../monitor/raw-client.js';
import { needs, type QemuName, repositoryRoot } from '../support/environment.js';
import { assertImageHoldsMemory } from '../support/image-witness.js';
import { loadMappedRam } from '../support/native-migration.js';
import { type OpenDescriptor, openDescriptors } from '../support/probes.js';
import { startVm, type TestVm, type VmOptions } from '../support/qemu.js';
import { temporaryFolder } from '../support/temporary-folder.js';

interface Front {
  readonly vm: TestVm;
  readonly monitor: Monitor;
  readonly socket: string;
  readonly folder: string;
  connect(): Promise<RawClient>;
}

async function front(t: TestContext, options: VmOptions): Promise<Front> {
  const folder = temporaryFolder('test');
  const vm = await startVm(options);
  const monitor = await monitorInFrontOf(vm.qmpPath);
  const socket = join(folder, 'front.sock');
  await monitor.listenQmp(socket);
  const clients: RawClient[] = [];
  t.after(async () => {
    for (const client of clients) client.destroy();
    await monitor.close();
    await vm[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true, force: true });
  });
  const connect = async () => {
    const client = await RawClient.connect(socket);
    clients.push(client);
    await client.negotiate();
    return client;
  };
  return { vm, monitor, socket, folder, connect };
}

/** Waits for the end of a migration as clients do: by asking again and again. */
async function settled(client: RawClient): Promise<JsonObject> {
  for (;;) {
    const reply = (await client.ask('query-migrate')) as { return: JsonObject };
    const { status } = reply.return;
    if (['completed', 'failed', 'cancelled'].includes(String(status))) return reply.return;
    await sleep(20);
  }
}

const capabilities = (...names: string[]) => ({
  capabilities: names.map((capability) => ({ capability, state: true })),
});

for (const qemu of ['10.0', '7.2'] satisfies QemuName[]) {
  test(`QEMU ${qemu}: what the monitor does not serve goes through unchanged`, needs({ qemu }), async (t) => {
    const { vm, connect } = await front(t, { qemu, guest: 'none', paused: true });
    const client = await connect();
    for (const [command, args] of [
      ['query-name', undefined],
      ['query-cpus-fast', undefined],
      ['qom-list', { path: '/machine' }],
      ['qom-list', { path: '/no-such' }],
      ['query-version', undefined],
      ['no-such-command', undefined],
      ['query-status', undefined],
      ['device_del', { id: 'nope' }],
    ] as const) {
      const direct = await vm.qmp.execute(command, args).then(
        (value) => ({ return: value }),
        (error: Error) => ({ error: error.message }),
      );
      const reply = (await client.ask(command, args)) as { error?: { desc: string } };
      const through = reply.error ? { error: reply.error.desc } : reply;
      assert.deepEqual(JSON.parse(JSON.stringify(through)), direct, command);
    }
    client.send('{"execute": "query-name", "id": {"any": [1, "thing"]}}\n');
    assert.deepEqual((await client.reply())?.id, { any: [1, 'thing'] });
    const listed = (await client.ask('query-commands')) as { return: { name: string }[] };
    const names = new Set(listed.return.map(({ name }) => name));
    for (const { name } of await vm.qmp.execute<{ name: string }[]>('query-commands')) {
      assert.ok(names.has(name), name);
    }
    const line = { 'command-line': 'info version' };
    assert.match(String((await client.ask('human-monitor-command', line))?.return), /^(10\.0|7\.2)/);
    const mice = await client.ask('human-monitor-command', { 'command-line': 'info mice' });
    assert.equal(mice?.return, await vm.qmp.hmp('info mice'));
  });

  test(
    `QEMU ${qemu}: the schema shows direct-io, and everything that QEMU shows`,
    needs({ qemu }),
    async (t) => {
      const { vm, connect } = await front(t, { qemu, guest: 'none', paused: true });
      const client = await connect();
      type Entry = { name: string; 'meta-type': string; 'arg-type': string; members: { name: string }[] };
      const schema = ((await client.ask('query-qmp-schema')) as unknown as { return: Entry[] }).return;
      const byName = new Map(schema.map((entry) => [entry.name, entry]));
      assert.equal(byName.size, schema.length, 'no name twice');
      const setParameters = byName.get(byName.get('migrate-set-parameters')?.['arg-type'] ?? '');
      assert.ok(
        setParameters?.members.some(({ name }) => name === 'direct-io'),
        'the schema lacks direct-io',
      );
      for (const { name, 'meta-type': kind } of await vm.qmp.execute<Entry[]>('query-qmp-schema')) {
        if (kind === 'command' || kind === 'event') assert.ok(byName.has(name), name);
      }
    },
  );

  test(`QEMU ${qemu}: events and descriptors go through`, needs({ qemu }), async (t) => {
    const { vm, folder, connect } = await front(t, { qemu, guest: 'none', paused: false });
    const client = await connect();
    await vm.stop();
    assert.equal((await client.event())?.event, 'STOP');
    await client.ask('cont');
    assert.equal((await client.event())?.event, 'RESUME');

    const fd = openSync(join(folder, 'passed'), constants.O_RDWR | constants.O_CREAT);
    const request = '{"execute": "add-fd", "arguments": {"fdset-id": 7, "opaque": "mine"}}\n';
    await sendDescriptors(client.socket, Buffer.from(request), [fd]);
    closeSync(fd);
    const added = (await client.reply()) as { return: { 'fdset-id': number; fd: number } };
    assert.equal(added.return['fdset-id'], 7);
    const inQemu = await vm.qmp.execute('query-fdsets');
    assert.deepEqual(inQemu, [{ 'fdset-id': 7, fds: [{ fd: added.return.fd, opaque: 'mine' }] }]);
    const seen: OpenDescriptor[] = openDescriptors(vm.pid, join(folder, 'passed'));
    assert.equal(seen.length, 1);
    assert.deepEqual((await client.ask('query-fdsets'))?.return, inQemu);
    await client.ask('remove-fd', { 'fdset-id': 7 });
    assert.deepEqual(await vm.qmp.execute('query-fdsets'), []);
  });

  test(`QEMU ${qemu}: options that it has are set in it, too`, needs({ qemu }), async (t) => {
    const { vm, connect } = await front(t, { qemu, guest: 'none', paused: true });
    const client = await connect();
    await client.ask('migrate-set-parameters', { 'multifd-channels': 7, 'direct-io': true });
    await client.ask('migrate-set-capabilities', capabilities('events', 'mapped-ram'));
    const parameters = await vm.qmp.execute<Record<string, unknown>>('query-migrate-parameters');
    assert.equal(parameters['multifd-channels'], 7);
    const own = (await client.ask('query-migrate-parameters')) as { return: JsonObject };
    assert.equal(own.return['direct-io'], true);
    assert.equal(own.return['multifd-channels'], 7);
    const bad = await client.ask('migrate-set-parameters', { 'multifd-channels': 0, 'max-bandwidth': 5 });
    assert.deepEqual(bad?.error, {
      class: 'GenericError',
      desc: "Parameter 'multifd_channels' expects a value between 1 and 255",
    });
  });

  test(`QEMU ${qemu}: its end ends commands and connections`, needs({ qemu }), async (t) => {
    const { vm, monitor, connect } = await front(t, { qemu, guest: 'none', paused: true });
    const client = await connect();
    process.kill(vm.pid, 'SIGKILL');
    await monitor.closed;
    assert.equal(await client.event(), undefined);
  });

  test(`QEMU ${qemu}: quit is answered before the connection ends`, needs({ qemu }), async (t) => {
    const { vm, connect } = await front(t, { qemu, guest: 'none', paused: true });
    const client = await connect();
    const reply = await client.ask('quit');
    assert.deepEqual(reply, { return: {} });
    assert.equal((await client.event())?.event, 'SHUTDOWN');
    assert.deepEqual(await vm.exited, { code: 0, signal: null });
  });

  test(
    `QEMU ${qemu}: a save with mapped-ram, multifd and direct-io`,
    needs({ qemu, guest: 'tiny' }),
    async (t) => {
      const { vm, folder, connect } = await front(t, { qemu, memory: 'shared-file' });
      const client = await connect();
      await client.ask('migrate-set-capabilities', capabilities('events', 'mapped-ram', 'multifd'));
      await client.ask('migrate-set-parameters', {
        'multifd-channels': 2,
        'direct-io': true,
        'max-bandwidth': 0,
      });
      await client.ask('stop');
      const file = join(folder, 'vm.mapram');
      assert.deepEqual(await client.ask('migrate', { uri: `file:${file}` }), { return: {} });
      // A second one at the same time, from another client, who then leaves in the middle.
      const other = await connect();
      const second = await other.ask('migrate', { uri: `file:${file}.other` });
      assert.ok(second?.error, 'the second migration is refused');
      other.destroy();
      const info = await settled(client);
      assert.equal(info.status, 'completed', JSON.stringify(info));
      const statuses: string[] = [];
      while (statuses.at(-1) !== 'completed') {
        const event = (await client.event()) as { event: string; data?: { status: string } };
        if (event.event === 'MIGRATION' && event.data) statuses.push(event.data.status);
      }
      assert.equal(statuses[0], 'setup');
      assert.deepEqual(statuses.slice(1, 2), ['active']);
      await using image = await MappedRamImage.open(file);
      assert.deepEqual(await checkImage(image), []);
      assert.ok((await assertImageHoldsMemory(image, vm)) > 0, 'the image holds no page');
      const stopped = (await client.ask('query-status')) as { return: JsonObject };
      assert.equal(stopped.return.running, false);
      await client.ask('cont');
      assert.equal(await vm.status(), 'running');
    },
  );
}

test(
  'QEMU 10.0: where it would crash for want of O_DIRECT, it is not asked',
  needs({ qemu: '10.0' }),
  async (t) => {
    const { vm, folder, connect } = await front(t, { qemu: '10.0', guest: 'none', paused: true });
    const client = await connect();
    await client.ask('migrate-set-capabilities', capabilities('mapped-ram', 'multifd'));
    await client.ask('migrate-set-parameters', { 'direct-io': true });
    const fd = openSync(join(folder, 'only-buffered'), constants.O_WRONLY | constants.O_CREAT);
    await sendDescriptors(
      client.socket,
      Buffer.from('{"execute": "add-fd", "arguments": {"fdset-id": 1}}\n'),
      [fd],
    );
    closeSync(fd);
    await client.reply();
    const reply = await client.ask('migrate', { uri: 'file:/dev/fdset/1' });
    assert.deepEqual(reply?.error, {
      class: 'GenericError',
      desc: 'Failed to find file descriptor with matching flags=0x4001',
    });
    assert.equal((await settled(client)).status, 'failed');
    assert.equal(vm.ended, false);
  },
);

for (const multifd of [false, true]) {
  const name = `QEMU 7.2: a running guest with private memory, multifd ${multifd ? 'on' : 'off'}`;
  test(name, needs({ qemu: ['7.2', '10.0'], guest: 'tiny' }), async (t) => {
    const options = { machine: 'pc-q35-7.2', memory: 'anonymous' } as const;
    const { vm, folder, connect } = await front(t, { ...options, qemu: '7.2' });
    const client = await connect();
    const wanted = multifd ? ['mapped-ram', 'multifd'] : ['mapped-ram'];
    await client.ask('migrate-set-capabilities', capabilities(...wanted));
    await client.ask('migrate-set-parameters', { 'direct-io': true, 'multifd-channels': 2 });
    const file = join(folder, 'vm.mapram');
    assert.deepEqual(await client.ask('migrate', { uri: `file:${file}` }), { return: {} });
    const info = await settled(client);
    assert.equal(info.status, 'completed', JSON.stringify(info));
    assert.equal((info.ram as JsonObject).remaining, 0);
    const {
      'precopy-bytes': before,
      'downtime-bytes': after,
      transferred,
    } = info.ram as Record<string, number>;
    if (!multifd) assert.ok(Number(before) > 0, `before: ${before}`);
    assert.ok(
      Number(after) > 0 && Number(transferred) > Number(before) + Number(after),
      `${transferred} bytes, ${before} before and ${after} after`,
    );
    const { counter } = vm.console;

    await using loaded = await startVm({ ...options, qemu: '10.0', incoming: true });
    await loadMappedRam(loaded, file, { channels: multifd ? 2 : 0 });
    if ((await loaded.status()) !== 'running') await loaded.cont();
    await loaded.console.waitForCounterAbove(counter);
    assert.deepEqual(loaded.console.torn, []);

    const third = await front(t, { ...options, qemu: '7.2', incoming: true });
    const other = await third.connect();
    await other.ask('migrate-set-capabilities', capabilities(...wanted));
    await other.ask('migrate-set-parameters', { 'direct-io': true, 'multifd-channels': 2 });
    const missing = await other.ask('migrate-incoming', { uri: `file:${file}.missing` });
    assert.match(JSON.stringify(missing?.error), /Could not open .*No such file or directory/);
    assert.deepEqual(await other.ask('migrate-incoming', { uri: `file:${file}` }), { return: {} });
    assert.equal((await settled(other)).status, 'completed');
    if ((await third.vm.status()) !== 'running') await third.vm.cont();
    await third.vm.console.waitForCounterAbove(counter);
    assert.deepEqual(third.vm.console.torn, []);

    const again = await client.ask('migrate-incoming', { uri: `file:${file}` });
    assert.deepEqual(again?.error, {
      class: 'GenericError',
      desc: "'-incoming' was not specified on the command line",
    });
  });
}

test(
  'QEMU 7.2: a cancelled save leaves the guest running',
  needs({ qemu: '7.2', guest: 'tiny' }),
  async (t) => {
    const { vm, folder, connect } = await front(t, { qemu: '7.2' });
    const client = await connect();
    await client.ask('migrate-set-capabilities', capabilities('mapped-ram', 'pause-before-switchover'));
    await client.ask('migrate', { uri: `file:${join(folder, 'vm.mapram')}` });
    await client.ask('migrate_cancel');
    assert.equal((await settled(client)).status, 'cancelled');
    await vm.console.waitForCounterAbove();
    assert.equal(await vm.status(), 'running');
  },
);

test(
  'QEMU 7.2: max-bandwidth holds a save back, and may be changed on the way',
  needs({ qemu: '7.2', guest: 'tiny' }),
  async (t) => {
    const { vm, folder, connect } = await front(t, { qemu: '7.2' });
    const client = await connect();
    const parameter = async (of: () => Promise<unknown>) =>
      ((await of()) as { 'max-bandwidth': number })['max-bandwidth'];
    const before = await parameter(() => vm.qmp.execute('query-migrate-parameters'));
    await client.ask('migrate-set-capabilities', capabilities('mapped-ram'));
    await client.ask('migrate-set-parameters', { 'max-bandwidth': 40_960 });
    await client.ask('migrate', { uri: `file:${join(folder, 'vm.mapram')}` });
    for (let normal = 0; normal < 10; ) {
      await sleep(20);
      const { ram, status } = ((await client.ask('query-migrate')) as { return: JsonObject }).return;
      assert.ok(status === 'setup' || status === 'active', String(status));
      normal = Number((ram as JsonObject | undefined)?.normal ?? 0);
    }
    await client.ask('migrate-set-parameters', { 'max-bandwidth': 0 });
    assert.equal((await settled(client)).status, 'completed');
    const own = await client.ask('query-migrate-parameters');
    assert.equal(await parameter(async () => own?.return), 0);
    while ((await parameter(() => vm.qmp.execute('query-migrate-parameters'))) !== 0) await sleep(20);
    assert.notEqual(before, 0);
  },
);

test(
  'QEMU 7.2: the dialogue of os-autoinst, by a client in Perl',
  needs({ qemu: '7.2', guest: 'tiny' }),
  async (t) => {
    const { vm, folder, socket } = await front(t, { qemu: '7.2' });
    const file = join(folder, 'vm.mapram');
    const script = join(repositoryRoot, 'test/qemu/save-as-os-autoinst.pl');
    const { stdout } = await promisify(execFile)('perl', [script, socket, file]);
    assert.match(stdout, /"status": *"running"/);
    await using image = await MappedRamImage.open(file);
    assert.deepEqual(await checkImage(image), []);
    await vm.console.waitForCounterAbove();
  },
);
