import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ProgressMeter } from '../src/progress-meter.js';

test('rates and remaining time follow the counters', () => {
  let now = 0;
  const meter = new ProgressMeter(() => now);
  now = 1000;
  const first = meter.report('RAM pass 1', {
    bytes: 100,
    totalBytes: 1000,
    pages: 1,
    channels: [{ id: 0, bytes: 60 }],
  });
  assert.equal(first.rate, 100);
  assert.equal(first.remainingMs, 9000);
  assert.deepEqual(first.channels, [{ id: 0, bytes: 60, rate: 60 }]);
  now = 2000;
  const second = meter.report('RAM pass 1', {
    bytes: 500,
    totalBytes: 1000,
    pages: 5,
    channels: [{ id: 0, bytes: 160 }],
  });
  assert.equal(second.rate, 200, 'two thirds of the old rate and one third of the new');
  assert.equal(second.channels?.[0]?.rate, 100);
});

test('nothing moved: no guess at the remaining time', () => {
  const meter = new ProgressMeter(() => 0);
  assert.equal(
    'remainingMs' in meter.report('connecting', { bytes: 0, totalBytes: 10, pages: 0, channels: [] }),
    false,
  );
});
