import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import fc from 'fast-check';
import { quoteForShell } from '../../src/launch/command-line.js';
import { isVisibleLine } from '../../src/visible.js';

/** The words as bash reads them. */
function readBack(line: string): string[] {
  const { stdout, stderr, status } = spawnSync('bash', ['-c', `printf '%s\\0' ${line}`], {
    encoding: 'utf8',
    env: { ...process.env, LC_ALL: 'C' },
  });
  assert.equal(status, 0, stderr);
  return stdout.split('\0').slice(0, -1);
}

test('a shell reads back the words, and a terminal shows all of them (F8)', () => {
  const words = [
    'qemu-system-x86_64',
    '',
    "it's",
    'a b',
    '$(id) `id` \\',
    "\x1b[2K\x1b[1A\rqemu-system-x86_64 -m 1G'\\",
    'line\nbreak\x7f\x9b8m1',
    '\u202e1 2\u2069 größe',
  ];
  const line = quoteForShell(words);
  assert.ok(isVisibleLine(line), line);
  assert.deepEqual(readBack(line), words);
  assert.match(line, /\$'\\033\[2K\\033\[1A\\015qemu-system-x86_64 -m 1G\\'\\\\'/);
});

test('words that need no escapes are quoted as before (F8)', () => {
  assert.equal(quoteForShell(['-m', '1G', 'a b', "it's"]), "-m 1G 'a b' 'it'\\''s'");
});

test('any words come back as they were (F8)', () => {
  // Arguments of processes have neither NULs nor halves of surrogate pairs.
  const word = fc.string({ unit: 'binary' }).map((text) => text.replace(/\0|\p{Cs}/gu, ''));
  fc.assert(
    fc.property(fc.array(word, { minLength: 1, maxLength: 20 }), (words) => {
      const line = quoteForShell(words);
      assert.ok(isVisibleLine(line), line);
      assert.deepEqual(readBack(line), words);
    }),
    { numRuns: 30 },
  );
});
