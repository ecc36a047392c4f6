import assert from 'node:assert/strict';
import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { withMonitorsFor } from '../../src/launch/chardev-monitors.js';
import { cloneCommandLine } from '../../src/launch/clone-command-line.js';
import { formatCommandLine, parseCommandLine } from '../../src/launch/command-line.js';
import { ownMonitor, withoutOwnMonitor } from '../../src/launch/own-monitor.js';
import { qemuRelease } from '../../src/launch/qemu-release.js';
import { qmpSockets, withQmpSocket } from '../../src/launch/qmp-sockets.js';
import type { QemuRelease } from '../../src/options/qemu-profile.js';
import { temporaryFolder } from '../support/temporary-folder.js';

function written(release: QemuRelease, ...args: string[]): string[] {
  return formatCommandLine(withMonitorsFor(release, parseCommandLine(args)));
}

describe('monitors on chardevs', () => {
  const pairs: [string, string][] = [
    ['m,id=i,mode=control,pretty=on', 'monitor-qmp,id=i,chardev=m,pretty=on'],
    ['m,id=i,mode=control', 'monitor-qmp,id=i,chardev=m'],
    ['m,id=i,mode=readline', 'monitor-hmp,id=i,chardev=m'],
  ];
  for (const [option, object] of pairs) {
    test(`-mon ${option} is -object ${object} for QEMU 11.1, and the other way round before`, () => {
      assert.deepEqual(written([11, 1], '-mon', option), ['-object', object]);
      assert.deepEqual(written([11, 0], '-object', object), ['-mon', option]);
      assert.deepEqual(written([12, 0], '-object', object), ['-object', object]);
      assert.deepEqual(written([10, 0], '-mon', option), ['-mon', option]);
    });
  }

  test('objects have an id, and come as JSON too', () => {
    assert.deepEqual(written([11, 1], '-mon', 'chardev=m'), [
      '-object',
      'monitor-hmp,id=monitor-m,chardev=m',
    ]);
    const json = '{"qom-type":"monitor-qmp","id":"i","chardev":"m","pretty":true}';
    assert.deepEqual(written([10, 2], '-object', json), ['-mon', 'm,id=i,mode=control,pretty=on']);
  });

  test('other objects, and the short forms, stay as they are in every release', () => {
    const args = ['-object', 'rng-random,id=r', '-qmp', 'stdio', '-monitor', 'none', '-mon', 'mode=control'];
    for (const release of [
      [7, 2],
      [11, 1],
    ] as const)
      assert.deepEqual(written(release, ...args), args);
  });
});

const VM = [
  ...['-chardev', 'socket,id=m,path=/run/vm.qmp,server=on,wait=off'],
  ...['-object', 'monitor-qmp,id=i,chardev=m'],
  ...['-chardev', 'socket,id=h,path=/run/vm.hmp,server=on,wait=off'],
  ...['-object', '{"qom-type":"monitor-hmp","id":"j","chardev":"h"}'],
];

test('the sockets of QMP monitor objects are found, and replaced', () => {
  const options = parseCommandLine(VM);
  assert.deepEqual(qmpSockets(options), ['/run/vm.qmp']);
  assert.deepEqual(formatCommandLine(withQmpSocket(options, '/new')), [
    ...VM.slice(4),
    ...['-qmp', 'unix:/new,server=on,wait=off'],
  ]);
});

test('a clone has the sockets of monitor objects in its own folder', () => {
  const { options } = cloneCommandLine(parseCommandLine(VM), '/c');
  assert.deepEqual(formatCommandLine(options), [
    ...['-chardev', 'socket,id=h,path=/c/vm.hmp,server=on,wait=off', ...VM.slice(6)],
    ...['-qmp', 'unix:/c/qmp.sock,server=on,wait=off'],
  ]);
});

test("mapram's own monitor is removed from a recorded command line in either form", () => {
  for (const release of [
    [10, 0],
    [11, 1],
  ] as const) {
    const args = formatCommandLine(withMonitorsFor(release, [...parseCommandLine(VM), ...ownMonitor()]));
    assert.equal(args.includes('-mon'), release[0] === 10);
    const left = withMonitorsFor([11, 1], withoutOwnMonitor(parseCommandLine(args)));
    assert.deepEqual(left.length, 4);
    assert.ok(!formatCommandLine(left).join(' ').includes('mapram'));
  }
});

test('the release of a program is asked for once, and again when the file has changed', async () => {
  const folder = temporaryFolder('release');
  const program = path.join(folder, 'qemu');
  const say = (version: string) => {
    writeFileSync(
      program,
      `#!/bin/sh\necho "$*" >> ${folder}/log\necho 'QEMU emulator version ${version} (made up)'\n`,
    );
    chmodSync(program, 0o755);
  };
  say('11.1.0');
  const asked = [qemuRelease(program, '/'), qemuRelease('./qemu', folder)];
  assert.deepEqual(await Promise.all(asked), [
    [11, 1],
    [11, 1],
  ]);
  say('9.2.10');
  assert.deepEqual(await qemuRelease(program, '/'), [9, 2]);
  assert.equal(readFileSync(path.join(folder, 'log'), 'utf8'), '--version\n--version\n');
});

test('a program that is none of QEMU, or is not there, has no release', async () => {
  for (const program of ['true', 'cat', '/nowhere/qemu', 'no-such-program', '/'])
    assert.equal(await qemuRelease(program, '/'), undefined);
});
