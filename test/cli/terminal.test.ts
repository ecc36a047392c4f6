import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { test } from 'node:test';

const main = path.join(import.meta.dirname, 'frame-fixture.js');
const needsScript = { skip: spawnSync('script', ['--version']).status !== 0 && 'needs script of util-linux' };

/** Runs the fixture on a terminal of its own; what it shows, carriage returns removed. */
function onTerminal(args: string, env: Record<string, string>): string {
  const command = `stty rows 24 cols 120; exec ${process.execPath} ${main} ${args}`;
  const { stdout } = spawnSync('script', ['-qec', command, '/dev/null'], {
    input: '',
    encoding: 'utf8',
    env: { ...process.env, TERM: 'xterm', LC_ALL: 'C.UTF-8', ...env },
  });
  return stdout.replaceAll('\r', '');
}

test('on a terminal a bar shows the progress and is gone at the end', needsScript, () => {
  const shown = onTerminal('echo vm', {});
  assert.match(shown, /ram +█{12}░{12} {2}50 % {2}1 B of 2 B {2}11 B\/s/);
  assert.match(shown, /ram +█{24} 100 %/);
  // The last frame is erased before the warning, and nothing is drawn after it.
  const warning = shown.indexOf('mapram: warning: ');
  assert.ok(
    shown.lastIndexOf('\u001b[2K') > shown.lastIndexOf('100 %') && shown.lastIndexOf('\u001b[2K') < warning,
    'the bar was not cleared before the warning',
  );
  assert.ok(shown.endsWith('done\n'), shown);
});

test('without UTF-8 the bar is plain', needsScript, () => {
  assert.match(onTerminal('echo vm', { LC_ALL: 'C' }), /ram +#{12}\.{12} {2}50 %/);
});

test('a dumb terminal and --json get no bar', needsScript, () => {
  assert.doesNotMatch(onTerminal('echo vm', { TERM: 'dumb' }), /50 %/);
  assert.doesNotMatch(onTerminal('echo vm --json', {}), /50 %/);
});

test('on a terminal no escape sequence comes from a phase, a message or a result (F8)', needsScript, () => {
  const shown = onTerminal('quote result', {});
  assert.match(shown, /\\x1b\[2K\\x1b\[1A\\x0dforged \\x9b8m/);
  for (const sequence of ['\x1b[2K\x1b[1Aforged', '\x9b', '\u202e', '\u2066', '\u{e0041}']) {
    assert.ok(!shown.includes(sequence), JSON.stringify(sequence));
  }
});
