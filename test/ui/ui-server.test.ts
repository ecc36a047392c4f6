import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  copyFileSync,
  linkSync,
  mkdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { connect, type Socket } from 'node:net';
import { test } from 'node:test';
import { MappedRamImage } from '../../src/mapped-ram/image.js';
import { UiServer } from '../../src/ui/ui-server.js';
import { writeBuiltinImage } from '../snapshot/builtin-image.js';
import { failsWith } from '../support/fails-with.js';
import { type ServerEvent, TestUi } from './ui-client.js';

const MIB = 2 ** 20;
const builtins = [{ size: 8 * MIB, dirtyRate: 0 }];

/** The events that a page gets at once: the present state. */
async function present(ui: TestUi, lastEventId?: string): Promise<ServerEvent[]> {
  const seen: ServerEvent[] = [];
  for await (const event of ui.events(lastEventId)) {
    seen.push(event);
    if (event.name === 'ready') break;
  }
  return seen;
}

test('a builtin guest is saved, verified and restored from the page', async () => {
  await using ui = await TestUi.start({ builtins });
  const saved = await ui.run({ kind: 'save', vm: 'builtin:1', directory: ui.directory, name: 'vm.mapram' });
  assert.equal(saved.state, 'done', saved.error?.message);
  assert.equal(saved.file, ui.file('vm.mapram'));
  assert.equal(saved.disk, 'write');
  assert.equal((saved.result as { ramBytes: number }).ramBytes, 8 * MIB + 65536);

  await ui.ask('api/refresh', { body: {} });
  const { saved: files, vms } = (await ui.ask('api/state')).json;
  assert.equal(files.length, 1);
  assert.equal(files[0].state, 'complete');
  assert.equal(files[0].image.machine, 'mapram-builtin-1.0');
  assert.equal(files[0].manifest.runState, 'running');
  assert.equal(vms.length, 1);
  assert.deepEqual([vms[0].kind, vms[0].runState, vms[0].operation], ['builtin', 'running', undefined]);

  const verified = await ui.run({ kind: 'verify', file: ui.file('vm.mapram') });
  assert.equal(verified.state, 'done', verified.error?.message);
  assert.equal(verified.verdict, undefined);

  const restored = await ui.run({ kind: 'restore', file: ui.file('vm.mapram'), vm: 'builtin', cont: true });
  assert.equal(restored.state, 'done', restored.error?.message);
  const after = (await ui.ask('api/state')).json.vms;
  assert.deepEqual(
    after.map(({ address, runState }: Record<string, string>) => [address, runState]),
    [
      ['builtin:1', 'running'],
      ['builtin:2', 'running'],
    ],
  );
});

test('a page tells what the memory of a file holds, and can do nothing else', async () => {
  await using ui = await TestUi.start({ builtins });
  await ui.run({ kind: 'save', vm: 'builtin:1', directory: ui.directory, name: 'vm.mapram' });
  await ui.ask('api/refresh', { body: {} });
  const file = encodeURIComponent(ui.file('vm.mapram'));
  const { status, headers, text } = await ui.ask(`report?file=${file}`);
  assert.equal(status, 200);
  assert.equal(headers['content-security-policy'], "sandbox allow-scripts; frame-ancestors 'none'");
  assert.match(text, /<meta http-equiv="Content-Security-Policy" content="default-src 'none';/);
  assert.match(text, /mapram-builtin-1\.0/);
  assert.equal((await ui.ask('report?file=%2Fetc%2Fpasswd')).status, 404);
});

test('Prometheus is told what operations have done', async () => {
  await using ui = await TestUi.start({ builtins });
  const save = { kind: 'save', vm: 'builtin:1', directory: ui.directory, name: 'vm.mapram' };
  const { result } = await ui.run({ ...save, directIo: 'off' });
  await ui.run(save);
  const { normalBytes, normalPages } = result as { normalBytes: number; normalPages: number };
  assert.ok(normalPages > 0, `normal pages: ${normalPages}`);
  const { text, headers } = await ui.ask('metrics');
  assert.match(headers['content-type'] ?? '', /^text\/plain; version=0\.0\.4/);
  const value = (sample: string) => {
    const line = text.split('\n').find((candidate) => candidate.startsWith(`${sample} `));
    return Number(line?.slice(sample.length + 1));
  };
  assert.equal(value('mapram_operations_total{kind="save",result="done"}'), 1);
  assert.equal(value('mapram_operations_total{kind="save",result="failed"}'), 1, 'the file exists already');
  assert.equal(value('mapram_operation_bytes_total{kind="save",io="buffered"}'), normalBytes);
  assert.equal(value('mapram_operation_bytes_total{kind="save",io="direct"}'), 0);
  assert.equal(value('mapram_operation_pages_total{kind="save"}'), normalPages);
  assert.equal(value('mapram_operations_running{kind="save"}'), 0);
  assert.ok(value('mapram_operation_seconds_total{kind="save"}') > 0, 'the seconds of saves are not counted');
});

test('damage is the verdict of a verification, not its failure', async () => {
  await using ui = await TestUi.start({ builtins });
  const file = ui.file('vm.mapram');
  await ui.run({ kind: 'save', vm: 'builtin:1', directory: ui.directory, name: 'vm.mapram' });
  await using image = await MappedRamImage.open(file);
  const [ram] = image.blocks;
  assert.ok(ram, 'there is no ram');
  const bytes = readFileSync(file);
  const at = ram.pagesOffset + ram.bitmap.nextSet(0) * ram.pageSize + 5;
  bytes[at] = (bytes[at] ?? 0) ^ 1;
  writeFileSync(file, bytes);
  await ui.ask('api/refresh', { body: {} });
  const { state, verdict } = await ui.run({ kind: 'verify', file });
  assert.equal(state, 'done');
  assert.match(verdict ?? '', /builtin/);
});

test('what cannot be saved fails with its reason and leaves the list usable', async () => {
  await using ui = await TestUi.start({ builtins });
  const request = { kind: 'save', vm: 'builtin:1', directory: ui.directory, name: 'vm' };
  assert.equal((await ui.run(request)).state, 'done');
  const second = await ui.run(request);
  assert.equal(second.state, 'failed');
  assert.equal(second.error?.code, 'EXISTS');
  assert.equal((await ui.ask(`api/operations/${second.id}`, { method: 'DELETE' })).status, 200);
  const { operations } = (await ui.ask('api/state')).json;
  assert.deepEqual(
    operations.map(({ id }: { id: number }) => id),
    [1],
  );
});

test('a cancelled save leaves no file and a running guest', async () => {
  await using ui = await TestUi.start({ builtins: [{ size: 512 * MIB, pattern: 'random', fill: 100 }] });
  const begun = await ui.ask('api/operations', {
    body: { kind: 'save', vm: 'builtin:1', directory: ui.directory, name: 'vm', directIo: 'off' },
  });
  assert.equal(begun.status, 202, begun.text);
  const cancelled = await ui.ask('api/operations/1/cancel', { body: {} });
  assert.equal(cancelled.status, 202);
  assert.equal(cancelled.json.state, 'cancelling');
  const ended = await ui.ended(1);
  assert.equal(ended.state, 'cancelled');
  assert.equal(ended.error?.code, 'CANCELLED');
  const { vms, saved } = (await ui.ask('api/state')).json;
  assert.equal(vms[0].runState, 'running');
  assert.deepEqual(saved, []);
  assert.equal((await ui.ask('api/operations/1/cancel', { body: {} })).status, 409);
});

test('one VM is in one hand at a time', async () => {
  await using ui = await TestUi.start({ builtins: [{ size: 256 * MIB, pattern: 'random', fill: 100 }] });
  const request = { kind: 'save', vm: 'builtin:1', directory: ui.directory, name: 'vm' };
  assert.equal((await ui.ask('api/operations', { body: request })).status, 202);
  const second = await ui.ask('api/operations', { body: { ...request, name: 'other' } });
  assert.equal(second.status, 409);
  assert.equal(second.json.error.code, 'BUSY');
  assert.equal((await ui.ask('api/monitor?vm=builtin:1')).status, 409);
  assert.equal((await ui.ask('api/run-state', { body: { vm: 'builtin:1', action: 'stop' } })).status, 409);
  assert.equal((await ui.ask('api/operations/1', { method: 'DELETE' })).status, 409);
  assert.equal((await ui.ended(1)).state, 'done');
});

test('closing the server cancels what is under way and puts it back', async () => {
  await using ui = await TestUi.start({ builtins: [{ size: 512 * MIB, pattern: 'random', fill: 100 }] });
  await ui.ask('api/operations', {
    body: { kind: 'save', vm: 'builtin:1', directory: ui.directory, name: 'vm', directIo: 'off' },
  });
  await ui.server.close();
  assert.throws(() => readFileSync(ui.file('vm')), { code: 'ENOENT' });
  await assert.rejects(ui.ask('api/state'));
});

test('a page that is loaded anew gets all there is, one that comes back what it missed', async () => {
  await using ui = await TestUi.start({ builtins });
  const first = await present(ui);
  assert.deepEqual(
    first.map(({ name }) => name),
    ['hello', 'directories', 'vms', 'saved', 'operations', 'ready'],
  );
  const last = first.at(-1)?.id;
  await ui.run({ kind: 'save', vm: 'builtin:1', directory: ui.directory, name: 'vm.mapram' });

  const missed = await present(ui, last);
  assert.ok(
    missed.every(({ name }) => !['hello', 'operations'].includes(name)),
    JSON.stringify(missed),
  );
  const operations = missed.filter(({ name }) => name === 'operation');
  assert.equal(operations[0]?.data.state, 'running');
  assert.equal(operations.at(-1)?.data.state, 'done');
  const numbers = missed.map(({ id }) => Number(id.split('.')[1]));
  assert.deepEqual(
    numbers,
    [...numbers].sort((one, other) => one - other),
  );

  const reloaded = await present(ui);
  const [operation] = reloaded.find(({ name }) => name === 'operations')?.data ?? [];
  assert.equal(operation.state, 'done');
  // Ids of another run, from the future or of no sense: begin anew.
  for (const id of ['other-run.1', `${last?.split('.')[0]}.999999`, 'x', '']) {
    assert.equal((await present(ui, id))[0]?.name, 'hello', id);
  }
});

test('parameters and capabilities are read and set', async () => {
  await using ui = await TestUi.start({ builtins });
  const before = (await ui.ask('api/monitor?vm=builtin:1')).json;
  const parameter = (state: typeof before, name: string) =>
    state.parameters.find((candidate: { name: string }) => candidate.name === name);
  assert.equal(before.directIo, false);
  assert.deepEqual(
    [parameter(before, 'direct-io').kind, parameter(before, 'direct-io').value],
    ['boolean', false],
  );
  assert.deepEqual(parameter(before, 'multifd-compression').choices, ['none', 'zlib', 'zstd']);

  const changed = await ui.ask('api/monitor', {
    body: {
      vm: 'builtin:1',
      capabilities: { 'mapped-ram': true, multifd: true },
      parameters: { 'direct-io': true, 'multifd-channels': '7', 'max-bandwidth': '9007199254740993' },
    },
  });
  assert.equal(changed.status, 200, changed.text);
  assert.equal(changed.json.directIo, true);
  assert.equal(parameter(changed.json, 'multifd-channels').value, '7');
  assert.equal(parameter(changed.json, 'max-bandwidth').value, '9007199254740993');

  for (const [parameters, status, message] of [
    [{ 'multifd-channels': '0' }, 400, /multifd_channels.*between 1 and 255/],
    [{ 'multifd-channels': 'many' }, 400, /whole number/],
    [{ 'multifd-channels': true }, 400, /whole number/],
    [{ 'direct-io': 'on' }, 400, /on or off/],
    [{ 'no-such': '1' }, 404, /no parameter no-such/],
  ] as const) {
    const refused = await ui.ask('api/monitor', { body: { vm: 'builtin:1', parameters } });
    assert.equal(refused.status, status, refused.text);
    assert.match(refused.json.error.message, message);
  }
  const after = (await ui.ask('api/monitor?vm=builtin:1')).json;
  assert.equal(parameter(after, 'multifd-channels').value, '7');
});

test('a guest is paused and goes on', async () => {
  await using ui = await TestUi.start({ builtins });
  const change = async (action: string) =>
    (await ui.ask('api/run-state', { body: { vm: 'builtin:1', action } })).json.runState;
  assert.equal(await change('stop'), 'paused');
  assert.equal(await change('cont'), 'running');
});

test('bad requests are refused with what is wrong with them', async () => {
  await using ui = await TestUi.start({ builtins });
  await writeBuiltinImage(ui.file('good'));
  await ui.ask('api/refresh', { body: {} });
  const save = { kind: 'save', vm: 'builtin:1', directory: ui.directory, name: 'vm' };
  for (const [body, status, message] of [
    ['{', 400, /not JSON/],
    ['[]', 400, /object/i],
    ['null', 400, /object/i],
    [{}, 400, /kind/],
    [{ kind: 'format-disk' }, 400, /kind/],
    [{ ...save, channels: 0 }, 400, /channels/],
    [{ ...save, channels: '4' }, 400, /channels/],
    [{ ...save, extra: 1 }, 400, /extra/],
    [{ ...save, vm: '/etc/passwd' }, 404, /no VM/],
    [{ ...save, directory: '/etc' }, 404, /no directory/],
    [{ ...save, name: '../x' }, 400, /file name/],
    [{ ...save, name: '.hidden' }, 400, /file name/],
    [{ ...save, name: '' }, 400, /file name/],
    [{ ...save, name: 'a\0b' }, 400, /file name/],
    [{ ...save, name: 'x'.repeat(300) }, 400, /file name/],
    [{ kind: 'verify', file: '/etc/passwd' }, 404, /no saved VM/],
    [{ kind: 'restore', file: ui.file('good'), vm: 'builtin:9' }, 404, /no VM/],
  ] as const) {
    const refused = await ui.ask('api/operations', { body });
    assert.equal(refused.status, status, `${JSON.stringify(body)}: ${refused.text}`);
    assert.match(refused.json.error.message, message);
  }
  const form = await ui.ask('api/operations', { body: '{}', headers: { 'Content-Type': 'text/plain' } });
  assert.equal(form.status, 415);
  const long = await ui.ask('api/operations', { body: JSON.stringify({ kind: 'x'.repeat(100_000) }) });
  assert.equal(long.status, 413);
  for (const [path, method, allow] of [
    ['', 'POST', 'GET'],
    ['main.js', 'DELETE', 'GET'],
    ['api/state', 'POST', 'GET'],
    ['api/operations', 'GET', 'POST, DELETE'],
    ['api/operations/1', 'GET', 'DELETE'],
    ['api/operations/1/cancel', 'GET', 'POST'],
    ['api/monitor', 'PUT', 'GET, POST'],
  ] as const) {
    const refused = await ui.ask(path, { method });
    assert.equal(refused.status, 405, `${method} ${path}`);
    assert.equal(refused.headers.allow, allow);
  }
  for (const path of [
    'api',
    'api/other',
    'api/operations/x',
    'api/operations/1/',
    'nothing.js',
    'constructor',
  ]) {
    assert.equal((await ui.ask(path)).status, 404, path);
  }
  for (const path of ['api/operations/77/cancel']) {
    assert.equal((await ui.ask(path, { body: {} })).status, 404, path);
  }
  assert.equal((await ui.ask('api/map')).status, 400);
  assert.equal((await ui.ask('api/map?file=/etc/passwd')).status, 404);
  assert.equal((await ui.ask('api/devices?file=/etc/passwd')).status, 404);
  assert.equal((await ui.ask('api/monitor?vm=/tmp/x.sock')).status, 404);
  assert.equal((await ui.ask('api/speed', { body: { directory: '/etc' } })).status, 404);
  assert.deepEqual((await ui.ask('api/state')).json.operations, []);
});

test('only saved VMs are listed, damaged ones with what is wrong', async () => {
  await using ui = await TestUi.start();
  await writeBuiltinImage(ui.file('good.mapram'));
  copyFileSync(ui.file('good.mapram'), ui.file('short.mapram'));
  truncateSync(ui.file('short.mapram'), (3 * MIB) / 2);
  writeFileSync(ui.file('bad.mapram'), Buffer.from('QEVM and nothing that makes sense'));
  writeFileSync(ui.file('notes.txt'), 'something else');
  writeFileSync(ui.file('disk.qcow2'), Buffer.from([0x51, 0x46, 0x49, 0xfb, 0, 0, 0, 3]));
  linkSync(ui.file('good.mapram'), ui.file('.other.mapram.mapram-part'));
  await ui.ask('api/refresh', { body: {} });
  const listed = (await ui.ask('api/state')).json.saved;
  assert.deepEqual(
    listed.map(({ name, state }: Record<string, string>) => [name, state]),
    [
      ['bad.mapram', 'unreadable'],
      ['good.mapram', 'complete'],
      ['short.mapram', 'incomplete'],
    ],
  );
  for (const { state, problems } of listed) assert.equal(problems.length > 0, state !== 'complete');

  rmSync(ui.file('short.mapram'));
  await ui.ask('api/refresh', { body: {} });
  assert.equal((await ui.ask('api/state')).json.saved.length, 2);
});

test('the map and the devices of a file', async () => {
  await using ui = await TestUi.start();
  const [normalPages = 0] = await writeBuiltinImage(ui.file('vm'), { stale: [255] });
  await ui.ask('api/refresh', { body: {} });
  const file = encodeURIComponent(ui.file('vm'));
  const map = (await ui.ask(`api/map?file=${file}`)).json;
  const [ram] = map.blocks;
  assert.equal(ram.presentPages, normalPages);
  assert.equal(ram.unusedPages, 1);
  assert.equal(ram.unused[255], 100);
  assert.equal(ram.present.length, 256);
  const devices = (await ui.ask(`api/devices?file=${file}`)).json;
  assert.ok(devices.length > 0, `length: ${devices.length}`);
  assert.ok(
    devices.every(({ values }: { values?: object }) => values !== undefined),
    'a device has no values',
  );
});

test('a disk is measured when asked', async () => {
  await using ui = await TestUi.start();
  assert.equal((await ui.ask('api/state')).json.directories[0].speed, undefined);
  const { status } = await ui.ask('api/speed', { body: { directory: ui.directory } });
  assert.equal(status, 200);
  const [{ speed, message }] = (await ui.ask('api/state')).json.directories;
  assert.ok(speed?.writeRate > 0 || typeof message === 'string', 'there is neither a speed nor a reason');
});

test('a directory that is not there and a port in use are said so', async () => {
  await assert.rejects(
    UiServer.start({ directories: ['/nonexistent/mapram'] }),
    failsWith('IO', /nonexistent/),
  );
  await using ui = await TestUi.start();
  const port = Number(new URL(ui.server.url).port);
  await assert.rejects(
    UiServer.start({ directories: [ui.directory], port, measureDisks: false }),
    failsWith('IO', /choose another --port/),
  );
});

test('of links, FIFOs, devices and files of /proc none is opened, unless a link leads to a file in the directories (F15)', async () => {
  await using ui = await TestUi.start({ builtins });
  await ui.run({ kind: 'save', vm: 'builtin:1', directory: ui.directory, name: 'vm.mapram' });
  const elsewhere = `${ui.directory}-elsewhere`;
  mkdirSync(elsewhere);
  try {
    copyFileSync(ui.file('vm.mapram'), `${elsewhere}/other.mapram`);
    symlinkSync(`${elsewhere}/other.mapram`, ui.file('outside'));
    // Reading it takes what the kernel has logged from others, and waits when there is nothing.
    symlinkSync('/proc/kmsg', ui.file('kmsg'));
    symlinkSync('/dev/zero', ui.file('device'));
    symlinkSync('vm.mapram', ui.file('inside'));
    symlinkSync('loop', ui.file('loop'));
    execFileSync('mkfifo', [ui.file('fifo')]);
    symlinkSync('fifo', ui.file('to-fifo'));
    // The first may join one that began before.
    await ui.ask('api/refresh', { body: {} });
    await ui.ask('api/refresh', { body: {} });
    const { saved } = (await ui.ask('api/state')).json;
    assert.deepEqual(
      saved.map(({ name, state }: Record<string, string>) => [name, state]),
      [
        ['inside', 'complete'],
        ['vm.mapram', 'complete'],
      ],
    );
  } finally {
    rmSync(elsewhere, { recursive: true });
  }
});

test('a directory of files that are no files of a disk is listed at once (F15)', async () => {
  const proc = await UiServer.start({ directories: ['/proc/self'], findRunning: false, measureDisks: false });
  await proc.close();
});

test('connections that say nothing shut nobody out (F14)', async () => {
  await using ui = await TestUi.start({ builtins });
  const { hostname, port } = new URL(ui.server.url);
  let closed = 0;
  const flood: Socket[] = [];
  for (let n = 0; n < 300; n++) {
    const socket = connect(Number(port), hostname);
    socket.on('error', () => {}).on('close', () => closed++);
    flood.push(socket);
    // Between them the owner is served, and a save goes on to its end.
    if (n % 100 === 50) assert.equal((await ui.ask('api/state')).status, 200);
  }
  const saved = await ui.run({ kind: 'save', vm: 'builtin:1', directory: ui.directory, name: 'vm.mapram' });
  assert.equal(saved.state, 'done', saved.error?.message);
  while (closed < 300 - 64) assert.equal((await ui.ask('api/state')).status, 200);
  for (const socket of flood) socket.destroy();
});

test('a request without the token ends its connection, one with it keeps it (F14)', async () => {
  await using ui = await TestUi.start({ builtins });
  const foreign = await ui.ask('../wrong/api/state');
  assert.deepEqual([foreign.status, foreign.headers.connection], [403, 'close']);
});
