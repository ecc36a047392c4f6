import assert from 'node:assert/strict';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { createConnection, type Socket } from 'node:net';
import { PassThrough } from 'node:stream';
import { type TestContext, test } from 'node:test';
import { BuiltinGuest } from '../../src/guest/builtin/builtin-guest.js';
import { BuiltinBackend } from '../../src/monitor/builtin-backend.js';
import { StreamChannel } from '../../src/monitor/client-channel.js';
import { LineEditor } from '../../src/monitor/hmp/line-editor.js';
import { Monitor } from '../../src/monitor/monitor.js';
import { qemuProfile } from '../../src/options/qemu-profile.js';
import { isVisibleLine } from '../../src/visible.js';
import { temporaryFolder } from '../support/temporary-folder.js';
import { render } from './terminal.js';
import { readTranscript } from './transcript.js';

async function startMonitor(t: TestContext): Promise<Monitor> {
  const profile = qemuProfile('10.0');
  const guest = await BuiltinGuest.start({ size: 4 << 20, begin: 'paused' });
  const monitor = new Monitor({ backend: new BuiltinBackend(guest, { profile }), profile });
  t.after(() => monitor.close());
  return monitor;
}

/** Everything that comes until the next prompt. */
async function untilPrompt(socket: Socket): Promise<string> {
  let text = '';
  while (!text.endsWith('(qemu) ')) {
    const chunk = socket.read() as Buffer | null;
    if (chunk) text += chunk.toString('latin1');
    else await once(socket, 'readable');
  }
  return text;
}

function comparable(output: string): string {
  return render(output)
    .replace(/QEMU [\d.]+/, 'QEMU N')
    .replaceAll(/(?:precopy|downtime) ram: .*\n/g, '')
    .replaceAll(/\d+(?:\.\d+)?/g, 'N');
}

test('a terminal sees what a terminal at QEMU 10.0.2 sees', async (t) => {
  const directory = temporaryFolder('test');
  const home = process.cwd();
  process.chdir(directory);
  t.after(() => {
    process.chdir(home);
    rmSync(directory, { recursive: true, force: true });
  });
  const monitor = await startMonitor(t);
  await monitor.listenHmp('hmp.sock');
  const socket = createConnection({ path: 'hmp.sock' });
  let actual = await untilPrompt(socket);
  let expected = '';
  let compared = 0;
  const compare = () => {
    assert.equal(comparable(actual), comparable(expected));
    compared++;
  };
  for (const line of readTranscript('qemu-10.0.2', 'hmp-monitor-raw')) {
    if (line.kind === 'show') expected += line.text;
    if (line.kind !== 'send' || line.text.startsWith('{')) continue;
    compare();
    socket.write(line.text);
    expected = '';
    actual = await untilPrompt(socket);
  }
  compare();
  socket.destroy();
  assert.equal(compared, 11);
});

test('on a pipe there is output alone', async (t) => {
  const monitor = await startMonitor(t);
  const input = new PassThrough();
  const output = new PassThrough();
  input.end('migrate_set_parameter direct-io on\nmigrate_set_parameter direct-io maybe\n\ninfo status');
  await monitor.serveHmp(new StreamChannel(input, output), { terminal: false });
  output.end();
  assert.equal(
    (await output.toArray()).join(''),
    "Error: Parameter 'direct-io' expects 'on' or 'off'\nVM status: paused (prelaunch)\n",
  );
  assert.equal(monitor.options.parameters['direct-io'], true);
});

test('an answer that quotes escape sequences does not hand them on (F8)', async (t) => {
  const monitor = await startMonitor(t);
  const input = new PassThrough();
  const output = new PassThrough();
  input.end('\x1b[2J\x9bm\n');
  await monitor.serveHmp(new StreamChannel(input, output), { terminal: false });
  output.end();
  const shown = (await output.toArray()).join('');
  assert.match(shown, /unknown command: '\\x1b\[2J/);
  assert.ok(isVisibleLine(shown.trimEnd()), shown);
});

function edit(...inputs: string[]): { shown: string; lines: string[] } {
  const words = ['migrate', 'migrate_cancel', 'migrate_continue', 'stop'];
  const editor = new LineEditor({
    prompt: '> ',
    maxLength: 20,
    complete: (line) => ({ begun: line, words: words.filter((word) => word.startsWith(line)) }),
  });
  let shown = '';
  const lines: string[] = [];
  for (const input of inputs) {
    for (const output of editor.type(input)) {
      if ('show' in output) shown += output.show;
      else lines.push(output.line);
    }
  }
  return { shown: render(shown), lines };
}

test('keys move, delete and recall as in QEMU', () => {
  assert.deepEqual(edit('stpo\x1b[D\x08\x1b[Cp\n').lines, ['stop']);
  assert.deepEqual(edit('ab c\x17d\n').lines, ['ab d']);
  assert.deepEqual(edit('abc\x01x\x05y\n').lines, ['xabcy']);
  assert.deepEqual(edit('abc\x1b[H\x1b[3~\x0bz\n').lines, ['z']);
  assert.deepEqual(edit('abc\x15d\r\ne\n').lines, ['d', 'e']);
  assert.deepEqual(edit('one\ntwo\n\x10\x10\n\x1b[A\x1b[A\x1b[B\n').lines, ['one', 'two', 'one', 'one']);
});

test('what is shown is what is edited', () => {
  assert.equal(edit('stopp\x1b[D\x1b[D\x1b[Dxy').shown, 'stxyopp');
  assert.equal(edit('stop\x02\x02\x7f\x04').shown, 'sp');
});

test('Tab completes, or shows what is possible', () => {
  assert.deepEqual(edit('st\t\n').lines, ['stop ']);
  assert.equal(edit('migrate_c\t').shown, 'migrate_c\nmigrate_cancel    migrate_continue  \n> migrate_c');
  assert.deepEqual(edit('x\t\n').lines, ['x']);
});

test('a line has an end, however long it is typed', () => {
  assert.deepEqual(edit(`${'x'.repeat(1000)}\n`).lines, ['x'.repeat(20)]);
});

test('an endless escape sequence is forgotten', () => {
  assert.deepEqual(edit(`\x1b[${'1'.repeat(500)}\x15ok\n`).lines, ['ok']);
});
