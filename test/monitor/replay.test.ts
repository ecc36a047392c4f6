/**
 * Real conversations with QEMU 10.0.2 and 7.2.22, sent again to a monitor in front of the builtin guest.
 *
 * Every line must come out equal, or be one of the deliberate differences below.
 */
import assert from 'node:assert/strict';
import { constants, mkdtempSync, rmSync } from 'node:fs';
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
    reason:
      'A file of the builtin guest does not say whether the guest ran: a loaded one runs unless told otherwise.',
    names: ['channels-argument'],
    matches: ({ actual, sent }) => actual.includes('RESUME') || sent.includes('quit'),
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
