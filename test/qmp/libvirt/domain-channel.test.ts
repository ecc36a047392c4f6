/** Domains behind a made-up virsh, for what no real one can be brought to say. test/qemu/libvirt-domain.test.ts has a real libvirt. */
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { formatLibvirtAddress, parseLibvirtAddress } from '../../../src/qmp/libvirt/libvirt-address.js';
import { QmpClient } from '../../../src/qmp/qmp-client.js';
import { failsWith } from '../../support/fails-with.js';
import { temporaryFolder } from '../../support/temporary-folder.js';

const UUID = '12345678-9abc-4ef0-8123-456789abcdef';
const VERSION =
  '{"return": {"qemu": {"major": 10, "minor": 0, "micro": 2}, "package": ""}, "id": "libvirt-1"}';

/** What the commands of a virsh do, as bash writes it. */
interface Script {
  /** For a QMP command in `$command`. */
  monitor?: string;
  /** Prints lines of events. */
  events?: string;
  list?: string;
  domuuid?: string;
  name?: string;
}

const fail = (text: string) => `{ printf '${text}\n' >&2; false; }`;

/** Puts a virsh first on the PATH, for one test. @returns the file in which it keeps its arguments */
function putVirsh(
  t: TestContext,
  { monitor = '', events = 'exec sleep 60', list, domuuid = `echo ${UUID}`, name = 'web' }: Script,
): string {
  const folder = temporaryFolder('virsh');
  const log = path.join(folder, 'log');
  const script = `#!/bin/bash
uri() { echo qemu:///made-up; }
domuuid() { ${domuuid}; }
domname() { cat << 'END'
${name}
END
}
list() { ${list ?? `echo ${UUID}`}; }
qemu-monitor-event() {
${events}
}
qemu-monitor-command() {
  printf '%s\n' "$*" >> ${log}
  local command="\${@: -1}"
  case $command in
    *query-version*) echo '${VERSION}' ;;
    *getfd*) ${fail('error: unsupported option --pass-fds')} ;;
    ${monitor}
    *) echo '{"return": {}, "id": "libvirt-2"}' ;;
  esac
}
while [[ $1 = -* ]]; do shift; done
if [ $# -gt 0 ]; then "$@"; exit; fi
echo 'Welcome'
while read -rep 'virsh # ' line; do eval "$line"; done
`;
  writeFileSync(path.join(folder, 'virsh'), script, { mode: 0o755 });
  const before = process.env.PATH;
  process.env.PATH = `${folder}:${before}`;
  t.after(() => {
    process.env.PATH = before;
  });
  return log;
}

test('an address names a domain, and the libvirt if it is not the usual one', () => {
  for (const [text, address] of [
    ['libvirt:web', { domain: 'web' }],
    ['libvirt:a#b:c', { domain: 'a#b:c' }],
    ['libvirt:qemu:///system#web', { domain: 'web', uri: 'qemu:///system' }],
    ['libvirt:qemu+ssh://me@host/system?a=b#x#y', { domain: 'x#y', uri: 'qemu+ssh://me@host/system?a=b' }],
  ] as const) {
    assert.deepEqual(parseLibvirtAddress(text), address);
    assert.equal(formatLibvirtAddress(address), text);
  }
  assert.equal(parseLibvirtAddress('/run/libvirt:web'), undefined);
  for (const text of ['libvirt:', 'libvirt:qemu:///system#'])
    assert.throws(() => parseLibvirtAddress(text), failsWith('USAGE', /names no domain/));
});

test('a domain is asked by its UUID, and what it answers is what QEMU does', async (t) => {
  const log = putVirsh(t, {
    monitor: `*big*) echo '{"return": {"big": 18446744073709551615, "text": "\\u00e4"}, "id": "libvirt-3"}' ;;
      *fails*) echo '{"id": "libvirt-4", "error": {"class": "DeviceNotFound", "desc": "no"}}' ;;`,
  });
  await using client = await QmpClient.connect('libvirt:web');
  assert.equal(client.name, 'libvirt:web');
  assert.deepEqual(client.version.qemu, { major: 10, minor: 0, micro: 2 });
  assert.equal(client.address, `libvirt:qemu:///made-up#${UUID}`);
  assert.deepEqual(await client.forward('big', { text: 'ä\'"$(x)' }), {
    return: { big: 18446744073709551615n, text: 'ä' },
  });
  await assert.rejects(client.execute('fails'), { errorClass: 'DeviceNotFound', description: 'no' });
  const commands = readFileSync(log, 'utf8').trim().split('\n');
  assert.equal(commands.length, 4);
  for (const command of commands) assert.match(command, new RegExp(`--domain=${UUID} --cmd=\\{`));
  const big = commands.find((command) => command.includes('"big"'));
  assert.ok(big?.endsWith(String.raw`"text": "\u00E4'\"$(x)"}}`), big);
});

test('a virsh that passes no descriptors does not keep a domain from being asked', async (t) => {
  putVirsh(t, {});
  await using client = await QmpClient.connect('libvirt:web');
  assert.equal(client.canPassDescriptors, false);
  assert.equal(client.peer, undefined);
  await assert.rejects(client.execute('add-fd', {}, { descriptors: [0] }), /cannot be passed to libvirt:web/);
});

test('events come with their data and time, whatever the domain is called', async (t) => {
  const name = "it's': {} #1";
  const line = (event: string, data: string) =>
    `2026-11-29 20:27:24.065123+0000: event ${event} for domain '${name}': ${data}`;
  putVirsh(t, {
    name,
    events: `sleep 0.1; cat << 'END'
${line('STOP', '<null>')}
not an event
${line('MIGRATION', '{"status":"completed","x":"\': {"}')}
END
exec sleep 60`,
  });
  await using client = await QmpClient.connect('libvirt:web');
  const events = client.events();
  const timestamp = { seconds: 1795984044, microseconds: 65000 };
  assert.deepEqual((await events.next()).value, { event: 'STOP', timestamp });
  assert.deepEqual((await events.next()).value, {
    event: 'MIGRATION',
    data: { status: 'completed', x: "': {" },
    timestamp,
  });
});

test('a command that libvirt does not pass on fails alone, with what virsh said', async (t) => {
  putVirsh(t, {
    monitor: `*locked*) ${fail('error: Timed out\\nerror: state change lock')} ;;`,
  });
  await using client = await QmpClient.connect('libvirt:web');
  await assert.rejects(client.execute('locked'), failsWith('QMP', /Timed out: state change lock$/));
  assert.deepEqual(await client.execute('cont'), {});
});

test('what is no reply is none of a QEMU', async (t) => {
  putVirsh(t, { monitor: `*odd*) echo '[1]' ;; *half*) echo '{"return":' ;;` });
  await using client = await QmpClient.connect('libvirt:web');
  for (const command of ['odd', 'half'])
    await assert.rejects(client.execute(command), failsWith('QMP', /no reply of a QEMU/));
});

test('a domain that ends, or a libvirt that does, ends the connection', async (t) => {
  putVirsh(t, { monitor: `*ends*) ${fail('error: End of file')} ;;`, list: 'echo other' });
  const client = await QmpClient.connect('libvirt:web');
  await assert.rejects(client.execute('ends'), failsWith('MONITOR', /the domain web has ended/));
  assert.ok(client.closed);

  putVirsh(t, { events: fail('error: Disconnected') });
  // At once, or as soon as it is connected.
  const untilItEnds = async () => {
    const other = await QmpClient.connect('libvirt:web');
    for (;;) await other.execute('cont');
  };
  await assert.rejects(untilItEnds, failsWith('MONITOR', /Disconnected/));
});

test('a domain that does not run, and a virsh that is not there, are named', async (t) => {
  const gone = { domuuid: fail('error: failed to get domain'), list: 'echo other' };
  putVirsh(t, gone);
  await assert.rejects(QmpClient.connect('libvirt:web'), (error: { cause?: { code?: string } }) => {
    assert.equal(error.cause?.code, 'ENOENT');
    return failsWith('MONITOR', /libvirt:web: no domain of that name is running/)(error);
  });
  putVirsh(t, { ...gone, list: fail('error: no connection') });
  await assert.rejects(QmpClient.connect('libvirt:web'), failsWith('MONITOR', /failed to get domain$/));
  process.env.PATH = temporaryFolder('empty');
  await assert.rejects(
    QmpClient.connect('libvirt:web'),
    failsWith('MONITOR', /virsh comes with libvirt's clients/),
  );
});
