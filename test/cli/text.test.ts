import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseVmAddress } from '../../src/cli/arguments.js';
import { formatDuration, formatRemaining, plural, table } from '../../src/cli/format.js';
import { toJsonLine } from '../../src/cli/json.js';
import { progressLine } from '../../src/cli/progress-bar.js';
import type { ProgressEvent } from '../../src/progress.js';
import { isVisibleLine } from '../../src/visible.js';

test('toJsonLine agrees with JSON.stringify wherever that can do it', () => {
  fc.assert(
    fc.property(fc.jsonValue({ stringUnit: 'binary' }), (value) => {
      const line = toJsonLine(value);
      assert.deepEqual(JSON.parse(line), JSON.parse(JSON.stringify(value)));
      if (isVisibleLine(JSON.stringify(value))) assert.equal(line, JSON.stringify(value));
      assert.ok(isVisibleLine(line), line);
    }),
  );
  assert.equal(toJsonLine({ a: undefined, b: [undefined] }), '{"b":[null]}');
});

test('toJsonLine writes 64-bit integers and bytes', () => {
  const value = { n: -(2n ** 63n), bytes: Uint8Array.of(0, 255), big: [1n] };
  assert.equal(toJsonLine(value), '{"n":-9223372036854775808,"bytes":"00ff","big":[1]}');
});

test('parseVmAddress knows sockets, hosts and the builtin guest', () => {
  assert.deepEqual(parseVmAddress('/run/vm.sock'), { kind: 'unix', path: '/run/vm.sock' });
  assert.deepEqual(parseVmAddress('unix:vm.sock'), { kind: 'unix', path: 'vm.sock' });
  assert.deepEqual(parseVmAddress('./builtin'), { kind: 'unix', path: './builtin' });
  assert.deepEqual(parseVmAddress('tcp:[::1]:4444'), { kind: 'tcp', host: '::1', port: 4444 });
  assert.deepEqual(parseVmAddress('tcp::4444'), { kind: 'tcp', host: 'localhost', port: 4444 });
  assert.deepEqual(parseVmAddress('builtin'), { kind: 'builtin', options: '' });
  assert.deepEqual(parseVmAddress('builtin:size=1G,fill=75'), {
    kind: 'builtin',
    options: 'size=1G,fill=75',
  });
  for (const text of ['', 'unix:', 'tcp:', 'tcp:h:0', 'tcp:h:65536', 'tcp:::1:4444']) {
    assert.throws(() => parseVmAddress(text), { code: 'commander.invalidArgument' }, text);
  }
});

test('the progress line has share, size, rate and remaining time', () => {
  const event = {
    phase: 'ram',
    bytes: 2 ** 30,
    totalBytes: 2 ** 31,
    pages: 0,
    rate: 1.5 * 2 ** 30,
    remainingMs: 683,
  };
  assert.equal(
    progressLine(event, false, 120),
    'ram          ############............  50 %  1 GiB of 2 GiB  1.5 GiB/s  0:01 left',
  );
  assert.match(
    progressLine({ ...event, bytes: 2 ** 32 }, true, 120),
    /^ram {10}█{24} 100 % {2}2 GiB of 2 GiB, 2 GiB again {2}1\.5 GiB\/s/,
  );
  assert.equal(
    progressLine({ phase: 'devices', bytes: 512, totalBytes: 0, pages: 0, rate: 0 }, true),
    'devices  512 B',
  );
});

test('the progress line is shorter than the terminal is wide, and keeps the share as long as it can', () => {
  const remainingMs = fc.option(fc.integer({ min: 0, max: 10 ** 9 }), { nil: undefined });
  const event = fc.record({
    phase: fc.constantFrom('RAM', 'RAM pass 12', 'device state', 'reading back what was written'),
    bytes: fc.nat(2 ** 31 - 1).map((n) => n * 1024),
    totalBytes: fc.nat(2 ** 31 - 1).map((n) => n * 512),
    pages: fc.constant(0),
    rate: fc.nat(2 ** 31 - 1),
    remainingMs,
  });
  fc.assert(
    fc.property(event, fc.boolean(), fc.integer({ min: 1, max: 200 }), (each, unicode, columns) => {
      const line = progressLine(each as ProgressEvent, unicode, columns);
      assert.ok(line.length < Math.max(columns, 1), `${line.length} of ${columns}: ${line}`);
      if (each.totalBytes > 0 && columns > 6) assert.match(line, /\d %/);
    }),
  );
});

test('a phase of unknown length shows what is known', () => {
  assert.equal(
    progressLine({ phase: 'asking', bytes: 0, totalBytes: 0, pages: 0, rate: 0 }, true),
    'asking …',
  );
});

test('durations, counts and tables read well', () => {
  assert.deepEqual([0, 59_001, 3_600_000].map(formatRemaining), ['0:00', '1:00', '1:00:00']);
  assert.deepEqual([0.04, 12.34, 99.99, 999, 1281, 125_000, 11_520_000, 435_600_000].map(formatDuration), [
    '0 ms',
    '12.3 ms',
    '100 ms',
    '999 ms',
    '1.28 s',
    '2 min 5 s',
    '3 h 12 min',
    '5 d 1 h',
  ]);
  assert.deepEqual([plural(1, 'page'), plural(0, 'page')], ['1 page', '0 pages']);
  assert.equal(
    table(
      [
        ['a', '1'],
        ['bbb', '22'],
      ],
      '<>',
    ),
    'a     1\nbbb  22',
  );
});
