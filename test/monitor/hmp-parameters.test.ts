/** The pairs of input and printed line that QEMU 11.1's own qtests check over HMP (tests/qtest/migration/misc-tests.c): facts, no code. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { BuiltinGuest } from '../../src/guest/builtin/builtin-guest.js';
import { BuiltinBackend } from '../../src/monitor/builtin-backend.js';
import { HumanMonitor } from '../../src/monitor/hmp/human-monitor.js';
import { Monitor } from '../../src/monitor/monitor.js';
import { qemuProfile } from '../../src/options/qemu-profile.js';

const LINES: readonly (readonly [name: string, value: string, printed: string])[] = [
  ['cpu-throttle-tailslow', 'on', 'on'],
  ['direct-io', 'on', 'on'],
  ['announce-initial', '60', '60 ms'],
  ['announce-max', '600', '600 ms'],
  ['announce-rounds', '6', '6'],
  ['announce-step', '15', '15 ms'],
  ['downtime-limit', '400', '400 ms'],
  ['avail-switchover-bandwidth', '2097152', '2199023255552 bytes/second'],
  ['max-bandwidth', '9876543', '10356305952768 bytes/second'],
  ['max-postcopy-bandwidth', '1048576', '1048576 bytes/second'],
  ['vcpu-dirty-limit', '20', '20 MB/s'],
  ['x-rdma-chunk-size', '1048576', '1048576 bytes'],
  ['x-vcpu-dirty-limit-period', '750', '750 ms'],
  ['xbzrle-cache-size', '67108864', '67108864 bytes'],
  ['x-checkpoint-delay', '5000', '5000 ms'],
  ['cpu-throttle-increment', '15', '15'],
  ['cpu-throttle-initial', '25', '25'],
  ['max-cpu-throttle', '85', '85'],
  ['multifd-channels', '8', '8'],
  ['throttle-trigger-threshold', '65', '65'],
  ['mode', 'cpr-exec', 'cpr-exec'],
  ['multifd-compression', 'zlib', 'zlib'],
  ['zero-page-detection', 'none', 'none'],
  ['tls-authz', 'my_authz', "'my_authz'"],
  ['tls-creds', 'null', "'null'"],
  ['tls-hostname', 'localhost', "'localhost'"],
  ['cpr-exec-command', '/bin/true foobar', '/bin/true foobar'],
];

const REFUSED: readonly (readonly [input: string, answer: string])[] = [
  ['', 'migrate_set_parameter: string expected'],
  ['foo', 'migrate_set_parameter: string expected'],
  ['foo on', 'Error: invalid parameter value: foo'],
  ['block-bitmap-mapping []', 'Error: The block-bitmap-mapping parameter can only be set through QMP'],
];

/** Can be set; QEMU prints no line for them. */
const NOT_PRINTED = ['multifd-qatzip-level', 'multifd-zlib-level', 'multifd-zstd-level'];

describe('HMP of QEMU 11.1', () => {
  let monitor: Monitor;
  const run = async (line: string) => (await new HumanMonitor(monitor).run(line)) ?? 'not served';

  before(async () => {
    const profile = qemuProfile('11.1');
    const guest = await BuiltinGuest.start({ size: 4 << 20, begin: 'paused' });
    monitor = new Monitor({ backend: new BuiltinBackend(guest, { profile }), profile });
  });
  after(() => monitor.close());

  for (const [name, value, printed] of LINES) {
    test(`${name} ${value} is printed as ${printed}`, async () => {
      assert.equal(await run(`migrate_set_parameter ${name} ${value}`), '');
      const lines = (await run('info migrate_parameters')).split(/\r?\n/);
      assert.ok(lines.includes(`${name}: ${printed}`), lines.join('\n'));
    });
  }

  for (const [input, answer] of REFUSED) {
    test(`migrate_set_parameter ${input} is refused`, async () => {
      const lines = (await run(`migrate_set_parameter ${input}`)).split(/\r?\n/);
      assert.ok(lines.includes(answer), lines.join('\n'));
    });
  }

  for (const name of NOT_PRINTED) {
    test(`${name} is set and not printed`, async () => {
      assert.equal(await run(`migrate_set_parameter ${name} 5`), '');
      assert.equal((await run('info migrate_parameters')).includes(name), false);
    });
  }
});
