import assert from 'node:assert/strict';
import { test } from 'node:test';
import { effectiveDirectIo } from '../../src/options/direct-io.js';
import { MigrationOptions } from '../../src/options/migration-options.js';
import { OptionError } from '../../src/options/option-error.js';
import { profileForVersion, qemuProfile } from '../../src/options/qemu-profile.js';

const options = (profile: '7.2' | '9.0' | '9.1' | '10.0' | '10.2' = '10.0', hasDirectIo = true) =>
  new MigrationOptions({ profile: qemuProfile(profile), hasDirectIo });

test('direct-io is off at first and always in the answer from 9.1 on', () => {
  assert.equal(options().queryParameters()['direct-io'], false);
  assert.equal(options('9.1').queryParameters()['direct-io'], false);
  assert.ok(!('direct-io' in options('9.0').queryParameters()), 'QEMU 9.0 has no direct-io');
});

test('direct-io can be set, and not before 9.1', () => {
  const vm = options();
  vm.setParameters({ 'direct-io': true });
  assert.equal(vm.parameters['direct-io'], true);
  assert.throws(() => options('9.0').setParameters({ 'direct-io': true }), {
    message: "Parameter 'direct-io' is unexpected",
  });
});

test('direct-io is refused when the platform has no O_DIRECT, and the rest of the request with it', () => {
  const vm = options('10.0', false);
  assert.throws(() => vm.setParameters({ 'direct-io': true, 'multifd-channels': 5 }), {
    name: 'OptionError',
    code: 'USAGE',
    message: 'No build-time support for direct-io',
  });
  assert.equal(vm.parameters['multifd-channels'], 2);
  vm.setParameters({ 'direct-io': false, 'multifd-channels': 5 });
  assert.equal(vm.parameters['multifd-channels'], 5);
});

test('direct-io takes effect only together with mapped-ram and multifd', () => {
  for (const direct of [false, true]) {
    for (const mapped of [false, true]) {
      for (const multifd of [false, true]) {
        assert.equal(
          effectiveDirectIo({ 'direct-io': direct }, { 'mapped-ram': mapped, multifd }),
          direct && mapped && multifd,
        );
      }
    }
  }
});

test('one bad value and nothing is applied', () => {
  const vm = options();
  const before = vm.parameters;
  assert.throws(() => vm.setParameters({ 'direct-io': true, 'multifd-channels': 0 }), {
    message: "Parameter 'multifd_channels' expects a value between 1 and 255",
  });
  assert.equal(vm.parameters, before);
});

test('snapshots do not change afterwards', () => {
  const vm = options();
  const before = vm.parameters;
  vm.setParameters({ 'multifd-channels': 9 });
  assert.equal(before['multifd-channels'], 2);
  assert.throws(() => {
    (vm.parameters as { 'direct-io': boolean })['direct-io'] = true;
  }, TypeError);
});

test('64-bit values stay intact and negative ones wrap', () => {
  const vm = options();
  vm.setParameters({ 'max-bandwidth': 2n ** 64n - 1n });
  assert.equal(vm.parameters['max-bandwidth'], 2n ** 64n - 1n);
  vm.setParameters({ 'max-bandwidth': -2 });
  assert.equal(vm.parameters['max-bandwidth'], 2n ** 64n - 2n);
});

test('the platform without a dirty ring refuses dirty-limit, one with it does not', () => {
  const args = { capabilities: [{ capability: 'dirty-limit', state: true }] };
  assert.throws(() => options().setCapabilities(args), OptionError);
  const vm = new MigrationOptions({ profile: qemuProfile('10.0'), hasDirtyRing: true });
  vm.setCapabilities(args);
  assert.equal(vm.capabilities['dirty-limit'], true);
});

test('a profile can serve options that its release lacks', () => {
  const vm = new MigrationOptions({
    profile: qemuProfile('7.2', ['direct-io', 'mapped-ram']),
    hasDirectIo: true,
  });
  vm.setParameters({ 'direct-io': true, 'compress-level': 3 });
  vm.setCapabilities({ capabilities: [{ capability: 'mapped-ram', state: true }] });
  assert.throws(() => vm.setParameters({ mode: 'normal' }), { message: "Parameter 'mode' is unexpected" });
});

test('the profile of a version is the newest that is not newer', () => {
  const names = [
    [4, 0],
    [7, 2],
    [8, 2],
    [9, 0],
    [9, 2],
    [10, 0],
    [10, 1],
    [11, 0],
  ].map(([major, minor]) => profileForVersion(major as number, minor as number).name);
  assert.deepEqual(names, ['7.2', '7.2', '7.2', '9.0', '9.1', '10.0', '10.1', '11.0']);
});
