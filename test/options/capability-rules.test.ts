/** The rules between capabilities, and between them and parameters, that changed with QEMU's releases. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { JsonObject } from '../../src/json/json-value.js';
import { checkMigration, checkTransport, parseMigrationTarget } from '../../src/options/migration-address.js';
import type { CapabilityName } from '../../src/options/migration-capabilities.js';
import { MigrationOptions } from '../../src/options/migration-options.js';
import { PROFILE_NAMES, type ProfileName, qemuProfile } from '../../src/options/qemu-profile.js';

/** What QEMU answers first to these capabilities, parameters, and a migration to a place; undefined where it takes them all. */
function refusal(
  release: ProfileName,
  on: readonly CapabilityName[],
  parameters: JsonObject = {},
  uri = 'file:/vm',
): string | undefined {
  const profile = qemuProfile(release);
  const vm = new MigrationOptions({ profile, hasDirectIo: true });
  try {
    vm.setCapabilities({ capabilities: on.map((capability) => ({ capability, state: true })) });
    vm.setParameters(parameters);
    checkTransport(profile, parseMigrationTarget(profile, { uri }), vm.capabilities);
    checkMigration(profile, vm.capabilities, vm.parameters);
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

/** The releases with mapped-ram. */
const NEW = PROFILE_NAMES.filter((name) => name !== '7.2');

test('mapped-ram excludes xbzrle, postcopy, TLS, compression and places that cannot seek, in every release', () => {
  for (const release of NEW) {
    const also = (name: CapabilityName) => refusal(release, ['mapped-ram', name]);
    assert.equal(refusal(release, ['mapped-ram']), undefined, release);
    assert.equal(also('xbzrle'), 'Mapped-ram migration is incompatible with xbzrle', release);
    assert.equal(also('postcopy-ram'), 'Mapped-ram migration is incompatible with postcopy', release);
    assert.equal(
      refusal(release, ['mapped-ram'], { 'tls-creds': 'tls0' }),
      'Cannot use TLS with mapped-ram',
      release,
    );
    assert.equal(
      refusal(release, ['mapped-ram'], { 'multifd-compression': 'zlib' }),
      'Cannot use compression with mapped-ram',
      release,
    );
    assert.equal(
      refusal(release, ['mapped-ram'], {}, 'tcp:127.0.0.1:1'),
      'Migration requires seekable transport (e.g. file)',
      release,
    );
    assert.equal(also('x-ignore-shared'), undefined, release);
  }
});

test('multifd goes with postcopy from 10.1 on', () => {
  for (const release of NEW) {
    const expected = ['9.0', '9.1', '10.0'].includes(release)
      ? 'Postcopy is not yet compatible with multifd'
      : undefined;
    assert.equal(refusal(release, ['multifd', 'postcopy-ram'], {}, 'tcp:127.0.0.1:1'), expected, release);
  }
});

test('the modes of a restart on this host exclude postcopy, background snapshots and COLO', () => {
  for (const release of NEW) {
    const cpr = { mode: 'cpr-reboot' };
    assert.equal(refusal(release, [], cpr), undefined, release);
    for (const [name, called] of [
      ['postcopy-ram', 'postcopy'],
      ['dirty-bitmaps', 'postcopy'],
      ['background-snapshot', 'background snapshot'],
      ['x-colo', 'COLO'],
    ] as const) {
      assert.equal(refusal(release, [name], cpr), `Cannot use ${called} with CPR`, release);
      assert.equal(refusal(release, [name]), undefined, release);
    }
  }
});

test('the mode cpr-exec needs its command', () => {
  for (const release of ['10.2', '11.0', '11.1'] as const) {
    const missing = "Parameter 'cpr-exec-command' required for cpr-exec";
    assert.equal(refusal(release, [], { mode: 'cpr-exec' }), missing, release);
    const given = { mode: 'cpr-exec', 'cpr-exec-command': ['/bin/true'] };
    assert.equal(refusal(release, [], given), undefined, release);
  }
});
