/**
 * Real conversations with QEMU 10.0.2 and 7.2.22, sent again to a monitor in front of the builtin guest.
 *
 * Every line must come out equal, or be one of the deliberate differences below.
 */

import assert from 'node:assert/strict';
import { constants, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import type { ProfileName } from '../../src/options/qemu-profile.js';
import { temporaryFolder } from '../support/temporary-folder.js';
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

/** Lines that differ, and have to: each says which, exactly. Those of a race may also come out equal. */
interface Deliberate {
  readonly reason: string;
  readonly name: string;
  /** The last note before, where the transcript has several parts. */
  readonly note?: string;
  /** `[QEMU's, mapram's]`. */
  readonly lines: readonly (readonly [expected: RegExp, actual: RegExp])[];
  /** Why they may be equal, too. */
  readonly race?: true;
}

const DELIBERATE: readonly Deliberate[] = [
  {
    reason:
      'Whether a command that has ended is met while setting up or while writing pages is a race: QEMU 10.0.2 says now this, now that.',
    name: 'exec-uri',
    lines: [
      [/"ram_save_setup failed: Input\/output error"/, /"Unable to write to command: Broken pipe"/],
      [/\(ram_save_setup failed: Input\/output error\)/, /\(Unable to write to command: Broken pipe\)/],
    ],
    race: true,
  },
  {
    reason: 'QEMU sometimes calls a cancelled migration broken as well.',
    name: 'cancel-pre-switchover',
    lines: [
      [/"status":"cancelled","error-desc":"Channel error: Input\/output error"/, /"status":"cancelled"\}/],
    ],
  },
  {
    reason:
      'QEMU 10.0 misses the O_DIRECT descriptor only after its reply, and crashes; mapram says so in the reply.',
    name: 'fdset-direct-io',
    note: 'write only, O_DIRECT fd missing',
    lines: [[/^\{"return":\{\}\}$/, /matching flags=0x4001/]],
  },
  {
    reason: 'QEMU 10.0 answers and then ends where there is no O_DIRECT; here there is not even the folder.',
    name: 'direct-io-no-support',
    lines: [[/^\{"return":\{\}\}$/, /Could not create '..\/..\/nodio\/nd.mig'/]],
  },
  {
    reason:
      'QEMU 10.0 cannot load what it saves with x-ignore-shared and mapped-ram; the builtin guest, nothing of which is shared, can.',
    name: 'mapped-ram-corners',
    note: 'x-ignore-shared together with mapped-ram: accepted when saving',
    lines: [
      [/"event":"MIGRATION".*"failed"/, /"event":"RESUME"/],
      [
        /"status":"failed","error-desc":"load of migration failed: Invalid argument"/,
        /"status":"completed"\}/,
      ],
      [/status: failed \(load of migration failed: Invalid argument\)/, /status: completed/],
      [/"status":"inmigrate"/, /"status":"running"/],
      [/"event":"SHUTDOWN"/, /"event":"MIGRATION".*"completed"/],
    ],
  },
  {
    reason: 'QEMU loads a file of 64 MiB into a VM of 128 MiB without a word; mapram refuses.',
    name: 'incoming-errors',
    note: 'other RAM size',
    lines: [
      [/"event":"RESUME"/, /"event":"MIGRATION".*"failed"/],
      [/"event":"MIGRATION".*"completed"/, /"nothing"/],
      [/"status":"completed"/, /"error-desc":"load of migration failed: Invalid argument"/],
      [/status: completed/, /status: failed \(load of migration failed: Invalid argument\)/],
      [/"status":"running"/, /"status":"inmigrate"/],
    ],
  },
];

/** Of these differences, those that are no deliberate ones. Each line of a deliberate one counts once. */
function unexpectedOf(name: string, differences: readonly Difference[]): Difference[] {
  const open = [...differences];
  for (const known of DELIBERATE.filter((candidate) => candidate.name === name)) {
    for (const [expected, actual] of known.lines) {
      const index = open.findIndex(
        (found) =>
          (known.note === undefined || found.note === known.note) &&
          expected.test(found.expected) &&
          actual.test(found.actual),
      );
      if (index >= 0) open.splice(index, 1);
      else assert.ok(known.race, `no longer different: ${expected} (${known.reason})`);
    }
  }
  return open;
}

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
  directory = temporaryFolder('test');
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
      assert.deepEqual(unexpectedOf(name, differences), []);
    });
  }
}

test('all transcripts together', (t) => {
  t.diagnostic(`${total.equal} of ${total.lines} lines equal`);
  assert.ok(total.lines > 2000, `lines: ${total.lines}`);
});
