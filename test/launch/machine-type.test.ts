import assert from 'node:assert/strict';
import { test } from 'node:test';
import { machineSupport } from '../../src/launch/machine-type.js';

test('a machine type is deprecated after three years and gone after six, from QEMU 11.0 on', () => {
  assert.deepEqual(machineSupport('pc-q35-7.2'), { deprecated: '10.2', removed: '13.2' });
  assert.deepEqual(machineSupport('pc-q35-5.0'), { deprecated: '8.0', removed: '11.0' });
  assert.deepEqual(machineSupport('virt-4.2'), { deprecated: '7.2', removed: '11.0' });
  assert.equal(machineSupport('microvm'), undefined);
  assert.equal(machineSupport('mapram-builtin-1.0'), undefined);
});
