import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { test } from 'node:test';
import { isVisibleLine } from '../../src/visible.js';
import { type RunOptions, runCli } from './run-cli.js';

const main = path.join(import.meta.dirname, 'frame-fixture.js');
const run = (args: string[], options: RunOptions = {}) => runCli(args, { main, ...options });

test('without --json: text on stdout, the warning as one line on stderr, no progress bar without a terminal', async () => {
  const { code, stdout, stderr } = await run(['echo', 'qmp.sock']);
  assert.deepEqual(
    { code, stdout, stderr },
    { code: 0, stdout: 'at once\ndone\n', stderr: 'mapram: warning: first line second line\n' },
  );
});

test('with --json: progress, warning and, last, the result; options have their types', async () => {
  const { code, stdout, stderr, lines } = await run([
    'echo',
    'tcp:localhost:4444',
    '1.5G',
    '--json',
    '--direct-io',
    'on',
    '--channels',
    '255',
  ]);
  assert.equal(code, 0);
  assert.equal(stderr, 'mapram: warning: first line second line\n');
  assert.deepEqual(lines.slice(0, -1), [
    { progress: 'echo', phase: 'ram', bytes: 1, totalBytes: 2, pages: 0, rate: 10 },
    { progress: 'echo', phase: 'ram', bytes: 2, totalBytes: 2, pages: 1, rate: 12 },
    { warning: 'echo', message: 'first line second line' },
  ]);
  assert.ok(
    stdout.endsWith(
      '{"result":"echo","vm":{"kind":"tcp","host":"localhost","port":4444},"size":1610612736,' +
        '"directIo":"on","channels":255,"big":18446744073709551615}\n',
    ),
    stdout,
  );
});

test('a failure is one line on stderr and, with --json, an error object as the last line; exit code 1', async () => {
  const plain = await run(['fail', 'io']);
  assert.deepEqual([plain.code, plain.stdout, plain.stderr], [1, '', 'mapram: reading a.img: EIO\n']);
  const json = await run(['fail', 'io', '--json']);
  assert.equal(json.code, 1);
  assert.deepEqual(json.result, {
    result: 'fail',
    error: { code: 'IO', message: 'reading a.img: EIO', path: 'a.img', offset: 4096 },
  });
});

test('an unexpected failure is one line too, and names itself as such', async () => {
  const { code, stderr } = await run(['fail', 'bug']);
  assert.equal(code, 1);
  assert.equal(
    stderr,
    'mapram: fail: unexpected failure: x is not a function (MAPRAM_DEBUG=1 shows where)\n',
  );
  const debug = await run(['fail', 'bug'], { env: { MAPRAM_DEBUG: '1' } });
  assert.match(debug.stderr, /\n\s+at .*frame-fixture/);
});

test('a bad verdict exits with 1 and still prints its result', async () => {
  const { code, stdout, stderr } = await run(['fail', 'verdict']);
  assert.deepEqual([code, stdout, stderr], [1, 'damaged\n', 'mapram: it is damaged\n']);
});

test('wrong usage: exit code 2, one line that says where to look', async (t) => {
  const cases: [string, string[], RegExp][] = [
    ['unknown command', ['explode'], /^mapram: unknown command 'explode'; see mapram --help\n$/],
    [
      'unknown option',
      ['echo', 'x', '--what'],
      /^mapram: echo: unknown option '--what'; see mapram echo --help\n$/,
    ],
    ['argument missing', ['echo'], /^mapram: echo: missing required argument 'vm'; see/],
    ['too many arguments', ['echo', 'a', '1', 'b'], /^mapram: echo: too many arguments/],
    [
      'choice',
      ['echo', 'a', '--direct-io', 'maybe'],
      /^mapram: echo: .*Allowed choices are auto, on, off; see/,
    ],
    ['channels 0', ['echo', 'a', '--channels', '0'], /whole number from 1 to 255; see/],
    ['channels 256', ['echo', 'a', '--channels', '256'], /whole number from 1 to 255; see/],
    ['channels 1.5', ['echo', 'a', '--channels', '1.5'], /whole number from 1 to 255; see/],
    ['size', ['echo', 'a', '12X'], /Expected a size such as/],
    ['port', ['echo', 'tcp:host:99999'], /port from 1 to 65535; see/],
    ['no port', ['echo', 'tcp:host'], /tcp:HOST:PORT/],
    ['from the command itself', ['fail', 'usage'], /^mapram: fail: wrong\n$/],
  ];
  for (const [name, args, expected] of cases) {
    await t.test(name, async () => {
      const { code, stdout, stderr } = await run(args);
      assert.equal(code, 2);
      assert.equal(stdout, '');
      assert.match(stderr, expected);
      assert.equal(stderr.split('\n').length, 2);
    });
  }
  const json = await run(['echo', '--json']);
  assert.equal(json.code, 2);
  assert.deepEqual(json.result, {
    result: 'echo',
    error: { code: 'USAGE', message: "echo: missing required argument 'vm'; see mapram echo --help" },
  });
});

test('no command: help on stderr and exit code 2; --help: on stdout and 0', async () => {
  const none = await run([]);
  assert.equal(none.code, 2);
  assert.equal(none.stdout, '');
  assert.match(none.stderr, /echo .*gives back what it was given/);
  for (const args of [['--help'], ['help'], ['echo', '--help'], ['help', 'echo'], ['--version']]) {
    const { code, stdout, stderr } = await run(args);
    assert.deepEqual([code, stderr], [0, ''], args.join(' '));
    assert.notEqual(stdout, '');
  }
});

for (const [name, exitCode] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
  ['SIGHUP', 129],
] as const) {
  test(`${name} aborts the command: one line, and exit code ${exitCode} as shells expect it`, async () => {
    let sent = false;
    const { code, stderr, result } = await run(['wait', '--json'], {
      onStdout(child) {
        if (!sent) child.kill(name);
        sent = true;
      },
    });
    assert.equal(code, exitCode);
    assert.equal(stderr, `mapram: wait: cancelled by ${name}\n`);
    assert.deepEqual(result, {
      result: 'wait',
      error: { code: 'CANCELLED', message: `wait: cancelled by ${name}` },
    });
  });
}

test('a second ^C ends at once, with the code of the shell', async () => {
  let timer: NodeJS.Timeout | undefined;
  const { code } = await run(['wait', '--stubborn', '--json'], {
    onStdout(child) {
      // Two signals that arrive together are one for the kernel, so they are repeated.
      timer ??= setInterval(() => child.kill('SIGINT'), 20);
    },
  });
  clearInterval(timer);
  assert.equal(code, 130);
});

test('--timeout gives up, with exit code 1 and a line that says so', async () => {
  const { code, stderr, result } = await run(['wait', '--json', '--timeout', '50ms']);
  assert.equal(code, 1);
  assert.equal(stderr, 'mapram: wait: given up after 50 ms, the limit that --timeout sets\n');
  assert.equal((result.error as { code: string }).code, 'CANCELLED');
  assert.equal((await run(['echo', 'x', '--timeout', '10m'])).code, 0);
});

test('--quiet leaves warnings and what went wrong, and with --json the result', async () => {
  const good = await run(['echo', 'x', '--quiet']);
  assert.deepEqual(
    [good.code, good.stdout, good.stderr],
    [0, '', 'mapram: warning: first line second line\n'],
  );
  const bad = await run(['fail', 'verdict', '-q']);
  assert.deepEqual([bad.code, bad.stdout, bad.stderr], [1, '', 'mapram: it is damaged\n']);
  const json = await run(['echo', 'x', '--quiet', '--json']);
  assert.deepEqual(
    json.lines.map((line) => Object.keys(line)[0]),
    ['warning', 'result'],
  );
});

test('an option that would do nothing without another is refused', async () => {
  const { code, stderr } = await run(['echo', 'x', '--log-level', 'debug']);
  assert.equal(code, 2);
  assert.equal(
    stderr,
    'mapram: echo: --log-level does nothing without --log; add that, or omit --log-level\n',
  );
});

test('help for what is no command says so, and -v is the version', async () => {
  const { code, stderr } = await run(['help', 'ecco']);
  assert.equal(code, 2);
  assert.match(stderr, /^mapram: unknown command 'ecco' \(Did you mean echo\?\); see mapram --help\n$/);
  assert.equal((await run(['-v'])).stdout, (await run(['--version'])).stdout);
});

test('all of a long result arrives', async () => {
  const { stdout } = await run(['flood']);
  assert.equal(stdout.length, 2 ** 21 + 1);
  assert.equal(String((await run(['flood', '--json'])).result.long).length, 2 ** 21);
});

test('a reader of stdout that goes away does not make the command fail', async () => {
  const { code, stdout, stderr } = await run(['talk'], { onStdout: (child) => child.stdout?.destroy() });
  assert.deepEqual([code, stderr], [0, '']);
  assert.ok(!stdout.includes('line 299'), 'the output was not cut off');
});

test('output that cannot be written does not break off the command; the exit code says so (F23)', () => {
  const { status, stderr } = spawnSync(
    'sh',
    ['-c', 'exec "$0" "$@" > /dev/full', process.execPath, main, 'echo', 'vm'],
    {
      encoding: 'utf8',
    },
  );
  assert.equal(status, 1);
  assert.match(
    stderr,
    /^mapram: warning: first line second line\nmapram: writing the output: no space left on device/,
  );
  assert.doesNotMatch(stderr, /^ +at /m);
});

test('nothing that a file or a QEMU says steers the terminal, whatever form it is put out in (F8)', async () => {
  for (const how of ['result', 'error']) {
    for (const options of [[], ['--json'], ['--log', 'text', '--log-level', 'debug'], ['--log', 'json']]) {
      const { stdout, stderr } = await run(['quote', how, ...options]);
      for (const line of `${stdout}${stderr}`.split('\n'))
        assert.ok(isVisibleLine(line), JSON.stringify(line));
      assert.match(stderr, /forged/);
    }
  }
  const { stdout, stderr } = await run(['quote', 'result']);
  const shown = '\\x1b[2K\\x1b[1A\\x0dforged \\x9b8m \\u202ederob\\u2066 \\u{e0041}';
  assert.equal(
    stdout,
    `${shown}\n${shown}\n\n${'name'.padEnd(shown.length + 14)}  value\n${shown}\\x0asound: yes  x\n`,
  );
  const onOneLine = shown.replace('\\x0d', ' ');
  assert.equal(stderr, `mapram: warning: ${onOneLine}\nmapram: damaged: ${onOneLine}\n`);
});
