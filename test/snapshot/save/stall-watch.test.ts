import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { MapramError } from '../../../src/errors.js';
import { StallWatch } from '../../../src/snapshot/save/stall-watch.js';

/** A watch whose clock the test moves, second by second, with what it said. */
function watched() {
  const state = { now: 0, bytes: 0, warnings: [] as string[], failures: [] as MapramError[] };
  const watch = new StallWatch({
    file: '/vm',
    bytes: () => state.bytes,
    onWarning: (message) => state.warnings.push(message),
    onStalled: (error) => state.failures.push(error),
    now: () => state.now,
  });
  const pass = (seconds: number, each = 1000) => {
    for (let n = 0; n < seconds; n++) {
      state.now += each;
      watch.look();
    }
  };
  return { state, watch, pass };
}

test('a disk that takes nothing is warned about, and given up in the end (F30)', () => {
  const { state, watch, pass } = watched();
  pass(9);
  assert.deepEqual(state.warnings, []);
  pass(100);
  assert.equal(state.warnings.length, 1);
  assert.match(state.warnings[0] ?? '', /taken nothing for 10 s while the guest is paused/);
  assert.equal(state.failures.length, 0);
  pass(11);
  assert.deepEqual(
    state.failures.map(({ code }) => code),
    ['IO'],
  );
  assert.match(String(state.failures[0]), /took nothing for 120 s/);
  watch[Symbol.dispose]();
});

test('a slow disk is neither, as long as anything is written (F30)', () => {
  const { state, watch, pass } = watched();
  for (let round = 0; round < 100; round++) {
    state.bytes += 4096;
    pass(9);
  }
  assert.deepEqual([state.warnings, state.failures], [[], []]);
  watch[Symbol.dispose]();
});

test('that this process was stopped is said, and is no fault of the disk (F30)', () => {
  const { state, watch, pass } = watched();
  pass(1, 200_000);
  assert.equal(state.warnings.length, 1);
  assert.match(state.warnings[0] ?? '', /did not run for 199 s, and the guest was paused as long/);
  pass(5);
  assert.deepEqual(state.failures, []);
  watch[Symbol.dispose]();
});
