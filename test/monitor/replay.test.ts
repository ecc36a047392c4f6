/**
 * Real conversations with QEMU 10.0.2 and 7.2.22, sent again to a monitor in front of the builtin guest.
 *
 * Every line must come out equal, or be one of the deliberate differences below.
 */
import assert from 'node:assert/strict';
import { constants, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { ProfileName } from '../../src/options/qemu-profile.js';
import { type Difference, replay } from './replay.js';
import { readTranscript } from './transcript.js';

const { O_RDONLY, O_WRONLY, O_RDWR, O_DIRECT } = constants;

/** The descriptors of `fdset-direct-io`, by the note before each part. */
const DESCRIPTORS = {
  'two fds: buffered + O_DIRECT': [O_RDWR, O_RDWR | O_DIRECT],
  'two fds: write only + O_DIRECT': [O_WRONLY, O_WRONLY | O_DIRECT],
  'only a buffered fd, direct-io off': [O_WRONLY],
  'write only, buffered fd missing': [O_WRONLY | O_DIRECT],
  'write only, O_DIRECT fd missing': [O_WRONLY],
  'two fds, direct-io off': [O_WRONLY, O_WRONLY | O_DIRECT],
  'with offset': [O_WRONLY, O_WRONLY | O_DIRECT],
  'load: two fds': [O_RDONLY, O_RDONLY | O_DIRECT],
  'load: only buffered': [O_RDONLY],
  'load: rdwr fds': [O_RDWR, O_RDWR | O_DIRECT],
};

/** The damaged files of `incoming-errors`, made from the one that `save-mapped-ram` has left behind. */
function damageFiles(): void {
  const saved = readFileSync('mr.mig');
  const changed = (offset: number, value: number) => {
    const copy = Buffer.from(saved);
    copy.writeUInt32BE(value, offset);
    return copy;
  };
  // Behind the name of the block its length, then the mapped-ram header: version, page size, offsets of bitmap and pages.
  const header = saved.indexOf('builtin.ram') + 'builtin.ram'.length + 8;
  const pages = Number(saved.readBigUInt64BE(header + 4 + 8 + 8));
  const files = {
    'stream.mig': Buffer.concat([saved.subarray(0, 8), Buffer.from([7])]),
    'empty.mig': Buffer.alloc(0),
    'trunc4.mig': saved.subarray(0, 6),
    'badmagic.mig': changed(0, 0x12345678),
    'badver2.mig': changed(4, 2),
    'badver9.mig': changed(4, 9),
    'mrv2.mig': changed(header, 2),
    'truncpages.mig': saved.subarray(0, pages + (1 << 20)),
    'truncram.mig': saved.subarray(0, pages + (64 << 20) + 10),
  };
  for (const [name, bytes] of Object.entries(files)) writeFileSync(name, bytes);
}

interface Deliberate {
  readonly reason: string;
  readonly names: readonly string[];
  matches(difference: Difference): boolean;
}

const OTHER_TRANSPORT = /mapped-ram form only|to and from files only/;

const DELIBERATE: readonly Deliberate[] = [
  {
    reason:
      'The builtin guest migrates through mapped-ram files only; other forms and transports are refused.',
    names: ['uri-errors', 'save-fail-enospc'],
    matches: ({ actual }) => OTHER_TRANSPORT.test(actual),
  },
  {
    reason: 'What such a refusal leaves behind: no migration to a socket has failed later, or completed.',
    names: ['uri-errors'],
    matches: ({ sent, expected }) =>
      /"Can't migrate the vm that was paused|no-such.sock|state: completed|"status":"completed"/.test(
        expected,
      ) || /"migrate foo:bar|"migrate -d unix|"uri":"foo:bar"/.test(sent),
  },
  {
    reason: 'QEMU sometimes calls a cancelled migration broken as well.',
    names: ['cancel-pre-switchover'],
    matches: ({ expected }) => expected.includes('Channel error'),
  },
  {
    reason:
      'QEMU 10.0 misses the O_DIRECT descriptor only after its reply, and crashes; mapram says so in the reply.',
    names: ['fdset-direct-io'],
    matches: ({ actual }) => actual.includes('matching flags=0x4001'),
  },
  {
    reason: 'QEMU 10.0 answers and then ends where there is no O_DIRECT; here there is not even the folder.',
    names: ['direct-io-no-support'],
    matches: ({ sent, actual }) => sent.includes('nodio') && actual.includes('Could not create'),
  },
  {
    reason:
      'Which kind of failure QEMU names for a file that ends within its header, and for a newer mapped-ram header.',
    names: ['incoming-errors'],
    matches: ({ expected, actual }) =>
      expected.includes('load of migration failed') && actual.includes('load of migration failed'),
  },
  {
    reason: 'The builtin guest is told by migrate-incoming what to load, not when it is started.',
    names: ['incoming-errors'],
    matches: ({ expected, actual }) => expected.includes('completed') && actual === '{"return":{}}',
  },
  {
    reason:
      'QEMU 10.0 cannot load what it saves with x-ignore-shared, and the builtin guest can; that has no background snapshots.',
    names: ['mapped-ram-corners'],
    matches: ({ sent, expected, actual }) =>
      /load of migration failed|"failed"|inmigrate/.test(expected) ||
      /Background-snapshot/.test(actual) ||
      /bg.mig|query-migrate|query-status|"quit"/.test(sent),
  },
];

const TRANSCRIPTS: readonly [version: string, profile: ProfileName, names: readonly string[]][] = [
  [
    'qemu-10.0.2',
    '10.0',
    [
      'qmp-basics',
      'params-valid',
      'params-invalid',
      'hmp-set-parameter',
      'caps-single',
      'caps-pairs',
      'caps-combos',
      'uri-errors',
      'channels-argument',
      'save-stream',
      'load-stream',
      'exec-uri',
      'sockets-multifd',
      'save-mapped-ram',
      'load-mapped-ram',
      'save-mapped-ram-multifd-direct-io',
      'load-mapped-ram-multifd-direct-io',
      'save-mapped-ram-offset',
      'load-mapped-ram-offset',
      'save-direct-io-without-multifd',
      'save-after-completed',
      'save-pause-before-switchover',
      'save-fail-enospc',
      'cancel-active',
      'cancel-pre-switchover',
      'cancel-then-save-again',
      'fdset-direct-io',
      'incoming-errors',
      'mapped-ram-corners',
      'direct-io-no-support',
      'uri-rdma-malformed',
    ],
  ],
  [
    'qemu-7.2.22',
    '7.2',
    [
      'qmp-basics',
      'params-valid',
      'params-invalid',
      'hmp-set-parameter',
      'caps-single',
      'caps-pairs',
      'uri-errors',
      'exec-uri',
      'sockets-multifd',
    ],
  ],
];

const total = { lines: 0, equal: 0 };
let directory: string;
const home = process.cwd();

before(() => {
  directory = mkdtempSync(join(tmpdir(), 'mapram-test-'));
  process.chdir(directory);
});

after(() => {
  process.chdir(home);
  rmSync(directory, { recursive: true, force: true });
});

for (const [version, profile, names] of TRANSCRIPTS) {
  for (const name of names) {
    test(`${version} ${name}`, async (t) => {
      const transcript = readTranscript(version, name);
      const { lines, equal, differences } = await replay(transcript, {
        profile,
        socket: join(directory, 'qmp.sock'),
        descriptors: DESCRIPTORS,
        ...(name === 'incoming-errors' ? { prepare: damageFiles } : {}),
      });
      total.lines += lines;
      total.equal += equal;
      t.diagnostic(`${equal} of ${lines} lines equal`);
      const unexpected = differences.filter(
        (difference) => !DELIBERATE.some((known) => known.names.includes(name) && known.matches(difference)),
      );
      assert.deepEqual(unexpected, []);
    });
  }
}

test('all transcripts together', (t) => {
  t.diagnostic(`${total.equal} of ${total.lines} lines equal`);
  assert.ok(total.lines > 2000);
});
