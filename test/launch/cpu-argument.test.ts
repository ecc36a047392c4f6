import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseCommandLine } from '../../src/launch/command-line.js';
import { cpuArgument, cpuArgumentOf } from '../../src/launch/cpu-argument.js';

const of = (...args: string[]) => cpuArgument(parseCommandLine(args));

test('a CPU argument is a model and what is set on it', () => {
  assert.deepEqual(of('-cpu', 'max'), { model: 'max', properties: {} });
  assert.deepEqual(of('-cpu', 'qemu64', '-cpu', 'max,+avx2,-cx16,pmu=off,level=13,hv-vpindex'), {
    model: 'max',
    properties: { avx2: true, cx16: false, pmu: false, level: '13', 'hv-vpindex': true },
  });
  assert.equal(of('-m', '1G'), undefined);
});

test('that of a process that is gone is unknown', () => {
  assert.equal(cpuArgumentOf(2 ** 22 + 1), undefined);
});
