import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { machineFits, machineSupport, sendsConfiguration } from '../../src/launch/machine-type.js';
import { isAtLeast, type QemuRelease } from '../../src/options/qemu-profile.js';
import { repositoryRoot } from '../support/environment.js';

test('a machine type is deprecated after three years, from QEMU 9.1 on, and gone after six, from 10.1 on', () => {
  const support = (machine: string) => Object.values(machineSupport(machine) ?? {});
  assert.deepEqual(machineSupport('pc-q35-7.2'), { deprecated: '10.2', removed: '13.2', newestMajor: 13 });
  assert.deepEqual(support('pc-q35-10.0'), ['13.0', '16.0', 15]);
  assert.deepEqual(support('pc-q35-5.0'), ['9.1', '11.0', 10]);
  assert.deepEqual(support('virt-4.2'), ['9.1', '10.2', 10]);
  assert.deepEqual(support('pc-q35-4.1'), ['9.1', '10.1', 10]);
  assert.deepEqual(support('pc-q35-2.12'), ['9.1', '10.1', 10]);
  assert.deepEqual(support('pc-i440fx-2.3'), ['8.2', '9.1', 9]);
  assert.equal(machineSupport('pc-i440fx-1.7'), undefined);
  assert.equal(machineSupport('microvm'), undefined);
  assert.equal(machineSupport('mapram-builtin-1.0'), undefined);
});

interface RecordedMachine {
  readonly name: string;
  readonly alias?: string;
  readonly deprecated: boolean;
}

/** From the oldest type that 10.0 has to one after the newest known QEMU. */
const RELEASES = [
  ...[4, 5, 6, 7, 8, 9, 10, 11, 12].map((minor) => `2.${minor}`),
  ...['3.0', '3.1'],
  ...[4, 5, 6, 7, 8, 9, 10, 11, 12].flatMap((major) => [0, 1, 2].map((minor) => `${major}.${minor}`)),
];

for (const version of ['10.1', '10.2', '11.0', '11.1']) {
  describe(`QEMU ${version}, as recorded`, () => {
    const file = path.join(repositoryRoot, 'test', 'options', 'recorded', `qemu-${version}.json`);
    const recorded: readonly RecordedMachine[] = JSON.parse(readFileSync(file, 'utf8')).machines;
    const existsBy = (release: string) => isAtLeast(releaseIn(version), releaseIn(release));

    test('has the machine types that are not yet removed', () => {
      const expected = ['pc-i440fx', 'pc-q35'].flatMap((family) =>
        RELEASES.map((release) => `${family}-${release}`).filter((name) => {
          const support = machineSupport(name);
          assert.ok(support, name);
          return existsBy(/[\d.]+$/.exec(name)?.[0] ?? '') && !existsBy(support.removed);
        }),
      );
      const versioned = recorded.map(({ name }) => name).filter((name) => /-\d/.test(name));
      assert.deepEqual(versioned.toSorted(), expected.toSorted());
    });

    test('calls deprecated what should be, and nothing else', () => {
      for (const { name, deprecated } of recorded) {
        const support = machineSupport(name);
        assert.equal(support !== undefined && existsBy(support.deprecated), deprecated, name);
      }
    });

    test('has the aliases that a recorded command line may name', () => {
      const aliased = recorded.filter(({ alias }) => alias !== undefined);
      const names = [
        ['pc', `pc-i440fx-${version}`],
        ['q35', `pc-q35-${version}`],
      ];
      assert.deepEqual(
        aliased.map(({ alias, name }) => [alias, name]),
        names,
      );
      for (const { alias = '', name } of aliased) assert.ok(machineFits(alias, name), name);
    });
  });
}

function releaseIn(text: string): QemuRelease {
  const [major = 0, minor = 0] = text.split('.').map(Number);
  return [major, minor];
}

test('machine types older than 2.4 send no configuration', () => {
  const sending = ['made-1.0', 'pc-i440fx-2.4', 'pc-q35-10.0', 'virt-2.6', 'microvm', 'mapram-builtin-1.0'];
  assert.deepEqual(sending.filter(sendsConfiguration), sending);
  assert.deepEqual(
    ['pc-i440fx-2.3', 'pc-i440fx-1.7', 'pc-1.0', 'pseries-2.1'].filter(sendsConfiguration),
    [],
  );
});
