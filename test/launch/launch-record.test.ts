import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { realpathSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { userName } from '../../src/io/process/process-user.js';
import { recordLaunch } from '../../src/launch/launch-record.js';
import { ownMonitor } from '../../src/launch/own-monitor.js';
import { failsWith } from '../support/fails-with.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const asRoot = { skip: process.geteuid?.() === 0 ? false : 'needs root, to start processes of other users' };

describe('recordLaunch', () => {
  let folder: string;
  const children: ChildProcess[] = [];

  before(() => {
    folder = temporaryFolder('launch');
    writeFileSync(path.join(folder, 'disk.img'), Buffer.alloc(4096));
    writeFileSync(path.join(folder, 'stand-in.mjs'), 'console.log(1); setInterval(() => {}, 1e6);');
  });
  after(() => {
    for (const child of children) child.kill('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  });

  /** A process with these arguments behind its program; Node stands in for QEMU. */
  async function start(args: string[]): Promise<number> {
    const child = spawn(process.execPath, ['stand-in.mjs', ...args], {
      cwd: folder,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    children.push(child);
    await once(child.stdout as NodeJS.ReadableStream, 'data');
    return child.pid as number;
  }

  test('tells program, arguments, directory and disks', async () => {
    const pid = await start(['-m', '64M', '-drive', 'file=disk.img,format=raw', '-drive', 'file=gone.img']);
    const record = recordLaunch(pid);
    assert.equal(record.program, realpathSync(process.execPath));
    assert.deepEqual(record.arguments.slice(-6), [
      '-m',
      '64M',
      '-drive',
      'file=disk.img,format=raw',
      '-drive',
      'file=gone.img',
    ]);
    assert.equal(record.workingDirectory, folder);
    // The first is the script: a bare word is a disk image to QEMU.
    const [, disk, ...others] = record.disks;
    assert.deepEqual(others, []);
    assert.equal(disk?.path, path.join(folder, 'disk.img'));
    assert.equal(disk?.size, 4096);
    assert.equal(disk?.format, 'raw');
    assert.equal(disk?.readOnly, false);
    assert.deepEqual(record.omitted, []);
  });

  test('tells whose process it is', async () => {
    const { uid, user } = recordLaunch(await start([]));
    assert.deepEqual([uid, user], [process.geteuid?.(), userName(uid ?? -1)]);
  });

  test("tells that it is another user's process (F3)", asRoot, async () => {
    const child = spawn('sleep', ['1000'], { stdio: 'ignore', uid: 65_534 });
    children.push(child);
    await once(child, 'spawn');
    const { uid, user } = recordLaunch(child.pid as number);
    assert.deepEqual([uid, user], [65_534, userName(65_534)]);
  });

  test('leaves secrets out', async () => {
    const pid = await start(['-object', 'secret,id=key0,data=hunter2', '-spice', 'port=1,password=hunter2']);
    const record = recordLaunch(pid);
    assert.ok(!JSON.stringify(record).includes('hunter2'), 'the record holds a secret');
    assert.deepEqual(record.omitted, [
      { name: 'key0', place: '-object secret,id=key0: data' },
      { name: 'spice', place: '-spice 1: password' },
    ]);
  });

  test("leaves mapram's own monitor out", async () => {
    const monitor = ownMonitor().flatMap(({ name, value }) => [`-${name}`, value as string]);
    const record = recordLaunch(await start(['-nodefaults', ...monitor, '-m', '1G']));
    assert.deepEqual(record.arguments.slice(-3), ['-nodefaults', '-m', '1G']);
  });

  test('is an error of its own for a process that is gone', () => {
    assert.throws(() => recordLaunch(2 ** 22 + 1), failsWith('IO'));
  });
});
