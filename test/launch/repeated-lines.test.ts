import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RepeatedLines } from '../../src/launch/repeated-lines.js';

test('lines that differ in numbers only are shown three times, in whatever pieces they come (R06)', () => {
  const lines = new RepeatedLines();
  const line = (n: number) => `discarding 0x${n.toString(16)} +4096 of pc.ram\n`;
  let shown = lines.take('qemu: one');
  shown += lines.take(' word\n');
  for (let n = 10; n < 1000; n++) shown += lines.take(line(n));
  shown += lines.take('qemu: another word\n');
  assert.deepEqual(shown.split('\n'), [
    'qemu: one word',
    line(10).trim(),
    line(11).trim(),
    `${line(12).trim()} (more lines like this one are left out)`,
    'qemu: another word',
    '',
  ]);
});
