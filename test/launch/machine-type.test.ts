import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { machineSupport, sendsConfiguration } from '../../src/launch/machine-type.js';
import { isAtLeast, type QemuRelease } from '../../src/options/qemu-profile.js';
import { repositoryRoot } from '../support/environment.js';

test('a machine type is deprecated after three years and gone after six, from QEMU 11.0 on', () => {
  const support = (machine: string) => Object.values(machineSupport(machine) ?? {});
  assert.deepEqual(machineSupport('pc-q35-7.2'), { deprecated: '10.2', removed: '13.2', newestMajor: 13 });
  assert.deepEqual(support('pc-q35-10.0'), ['13.0', '16.0', 15]);
  assert.deepEqual(support('pc-q35-5.0'), ['8.0', '11.0', 10]);
  assert.deepEqual(support('virt-4.2'), ['7.2', '11.0', 10]);
  assert.deepEqual(support('pc-i440fx-2.3'), ['5.3', '10.0', 9]);
  assert.equal(machineSupport('pc-i440fx-1.7'), undefined);
  assert.equal(machineSupport('microvm'), undefined);
  assert.equal(machineSupport('mapram-builtin-1.0'), undefined);
});

test('QEMU 11.1 has and calls deprecated the machine types that it should, as recorded', () => {
  const file = path.join(repositoryRoot, 'test', 'options', 'recorded', 'qemu-11.1.json');
  const recorded: { name: string; deprecated: boolean }[] = JSON.parse(readFileSync(file, 'utf8')).machines;
  const by111 = (release: string) =>
    isAtLeast([11, 1], release.split('.').map(Number) as never as QemuRelease);
  const minors = [0, 1, 2];
  const releases = [4, 5, 6, 7, 8, 9, 10, 11].flatMap((major) => minors.map((minor) => `${major}.${minor}`));
  for (const family of ['pc-i440fx', 'pc-q35']) {
    for (const release of releases.filter(by111)) {
      const name = `${family}-${release}`;
      const support = machineSupport(name);
      assert.ok(support, name);
      const machine = recorded.find((candidate) => candidate.name === name);
      assert.equal(machine !== undefined, !by111(support.removed), name);
      if (machine !== undefined) assert.equal(machine.deprecated, by111(support.deprecated), name);
    }
  }
});

test('machine types older than 2.4 send no configuration', () => {
  const sending = ['made-1.0', 'pc-i440fx-2.4', 'pc-q35-10.0', 'virt-2.6', 'microvm', 'mapram-builtin-1.0'];
  assert.deepEqual(sending.filter(sendsConfiguration), sending);
  assert.deepEqual(
    ['pc-i440fx-2.3', 'pc-i440fx-1.7', 'pc-1.0', 'pseries-2.1'].filter(sendsConfiguration),
    [],
  );
});
