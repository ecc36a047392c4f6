/** Clones of one file on real QEMUs: each goes on by itself, they share memory and nothing else. */

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { MapramError } from '../../src/errors.js';
import { fork } from '../../src/snapshot/resume/fork.js';
import { runCli } from '../cli/run-cli.js';
import { needs } from '../support/environment.js';
import { saveMappedRam } from '../support/native-migration.js';
import { sha256 } from '../support/probes.js';
import { startVm } from '../support/qemu.js';
import { QmpSession } from '../support/qmp-session.js';
import { consoleIn, killProcessesWith, processesWith } from '../support/resumed-guest.js';
import { temporaryFolder } from '../support/temporary-folder.js';

const COUNT = 4;
const CLI = path.resolve(import.meta.dirname, '..', '..', 'src', 'cli', 'main.js');

/** A member of /proc/PID/smaps for the mapping of `file` as memory, in bytes. */
function mappedBytes(pid: number, file: string, member: string): number {
  const sections = readFileSync(`/proc/${pid}/smaps`, 'latin1').split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m);
  return sections
    .filter((section) => section.split('\n', 1)[0]?.endsWith(` ${file}`))
    .reduce(
      (total, section) => total + Number(new RegExp(`^${member}: +(\\d+) kB`, 'm').exec(section)?.[1]) * 1024,
      0,
    );
}

describe('fork', needs({ qemu: '10.0', guest: 'tiny', tools: ['qemu-img'] }), () => {
  let folder: string;
  let file: string;
  let disk: string;
  let command: string[];
  let source: string;
  let counter: number;
  let bootChecksum: string | undefined;

  before(async () => {
    folder = temporaryFolder('fork-test');
    file = path.join(folder, 'vm.mapram');
    disk = path.join(folder, 'disk.img');
    execFileSync('qemu-img', ['create', '-q', '-f', 'raw', disk, '1M']);
    const drive = ['-drive', `file=${disk},format=raw,if=virtio`];
    await using vm = await startVm({ extraArgs: [...drive, '-device', 'vmgenid,guid=auto'] });
    await saveMappedRam(vm, file, { channels: 2 });
    command = [...vm.commandLine];
    source = vm.folder;
    counter = vm.console.counter;
    bootChecksum = vm.console.bootChecksum;
  });
  after(() => {
    killProcessesWith(folder);
    rmSync(folder, { recursive: true, force: true });
  });

  test('starts clones that go on by themselves and share what they do not change', async () => {
    const untouched = await sha256(file);
    const diskUntouched = await sha256(disk);
    const directory = path.join(folder, 'clones');
    const warnings: string[] = [];
    {
      await using clones = await fork({
        file,
        count: COUNT,
        dir: directory,
        command,
        onWarning: (text) => warnings.push(text),
      });
      assert.equal(clones.vms.length, COUNT);
      assert.deepEqual(
        clones.vms.map(({ facts }) => facts.qmp),
        [1, 2, 3, 4].map((n) => path.join(directory, `clone-${n}`, 'qmp.sock')),
      );
      const [victim, ...survivors] = clones.vms;
      process.kill(victim?.pid as number, 'SIGKILL');
      await victim?.exited;
      const ids = new Set<string>();
      for (const {
        facts: { qmp, pid },
      } of survivors) {
        const console = await consoleIn(path.dirname(qmp));
        await console.waitForCounterAbove(counter);
        assert.equal(await console.checksum(), bootChecksum);
        assert.deepEqual(console.torn, []);
        console.close();
        const session = await QmpSession.open(qmp);
        ids.add((await session.execute<{ guid: string }>('query-vm-generation-id')).guid);
        session.close();
        const overlay = path.join(path.dirname(qmp), 'disk0.qcow2');
        const info = JSON.parse(
          execFileSync('qemu-img', ['info', '-U', '--output=json', overlay], { encoding: 'utf8' }),
        ) as Record<string, unknown>;
        assert.equal(info['full-backing-filename'], disk);
        assert.equal(info['backing-filename-format'], 'raw');
        // Its noise, 32 MiB, was only read: that is the file's own cache.
        assert.ok(mappedBytes(pid, file, 'Rss') > 24 << 20, 'the file was not read into the page cache');
        assert.ok(mappedBytes(pid, file, 'Private_Dirty') < 20 << 20, 'too much memory was copied');
      }
      assert.equal(ids.size, COUNT - 1);
    }
    assert.deepEqual(processesWith(file), []);
    assert.deepEqual(warnings, []);
    assert.equal(await sha256(file), untouched);
    assert.equal(await sha256(disk), diskUntouched);
    assert.deepEqual(readdirSync(directory), [], 'the folders of clones go with them (B2)');
  });

  test('keeps the folders of clones when it is asked to', async () => {
    const dir = path.join(folder, 'kept');
    const clones = await fork({ file, count: 2, command, paused: true, dir, keep: true });
    await clones.close();
    assert.deepEqual(readdirSync(dir), ['clone-1', 'clone-2']);
  });

  test('removes its own temporary folder, and nothing runs on', async () => {
    const clones = await fork({ file, count: 2, command, paused: true });
    assert.deepEqual(
      clones.vms.map(({ facts }) => facts.runState),
      ['paused', 'paused'],
    );
    await clones[Symbol.asyncDispose]();
    assert.equal(existsSync(clones.directory), false);
    assert.deepEqual(processesWith(file), []);
  });

  describe('by a command that is killed', () => {
    const start = (own: string, args: readonly string[]) =>
      spawn(
        process.execPath,
        [CLI, ...args, '--json', '--', ...command.map((word) => word.replaceAll(source, own))],
        {
          env: { ...process.env, XDG_RUNTIME_DIR: own, TMPDIR: own },
          stdio: ['ignore', 'pipe', 'ignore'],
        },
      );
    const makeOwn = (name: string) => {
      const own = path.join(folder, name);
      mkdirSync(own);
      return own;
    };
    /** Until the guard has done; the tests' own time limit is the only one. */
    const untilNothingIsLeft = async (own: string) => {
      const left = () => [
        ...processesWith(file),
        ...readdirSync(own).filter((name) => name.startsWith('mapram-')),
        ...readdirSync(path.join(own, 'mapram')),
      ];
      while (left().length > 0) await delay(20);
    };

    for (const [name, args] of [
      ['fork', ['--count', '3']],
      ['resume', []],
    ] as const) {
      test(`${name}: its VMs end with it when they are there (F19)`, async () => {
        const own = makeOwn(`killed-${name}`);
        const child = start(own, [name, file, ...args]);
        await once(child.stdout, 'data');
        assert.ok(processesWith(file).length > 1, 'the clones do not run');
        child.kill('SIGKILL');
        await untilNothingIsLeft(own);
      });

      test(`${name}: its VMs end with it while they are started (F19)`, async () => {
        const own = makeOwn(`early-${name}`);
        const child = start(own, [name, file, ...args]);
        while (processesWith(file).length < 2) await delay(2);
        child.kill('SIGKILL');
        await untilNothingIsLeft(own);
      });
    }

    test('together with its guard: the doctor lists its VMs, and ends them when it is asked to (F19)', async () => {
      const own = makeOwn('orphans');
      const child = start(own, ['fork', file, '--count', '2']);
      await once(child.stdout, 'data');
      child.kill('SIGSTOP');
      for (const guard of processesWith(`${own}/mapram/`)) process.kill(guard, 'SIGKILL');
      child.kill('SIGKILL');
      await once(child, 'exit');
      const doctor = async (...options: string[]) => {
        const { result } = await runCli(['doctor', own, '--json', ...options], {
          env: { XDG_RUNTIME_DIR: own },
        });
        return (result.leftBehind as { orphans: { processes: number[]; ended: boolean }[] }).orphans;
      };
      const vms = processesWith(file);
      assert.equal(vms.length, 2);
      const [seen] = await doctor();
      assert.deepEqual([seen?.processes.sort(), seen?.ended], [vms.sort(), false]);
      assert.equal(processesWith(file).length, 2, 'looking changes nothing');
      assert.equal((await doctor('--end-orphans'))[0]?.ended, true);
      await untilNothingIsLeft(own);
    });

    test('with --detach: they stay (F19)', async () => {
      const own = makeOwn('detached');
      const child = start(own, ['resume', file, '--detach']);
      const [code] = await once(child, 'exit');
      assert.equal(code, 0);
      assert.equal(processesWith(`${own}/`).length, 1);
      killProcessesWith(`${own}/`);
    });
  });

  test('starts all or none', async () => {
    const directory = path.join(folder, 'none');
    await assert.rejects(
      fork({
        file,
        count: 3,
        dir: directory,
        command: [...command, '-device', 'no-such-device'],
        onWarning() {},
      }),
      (error) => error instanceof MapramError && /no-such-device/.test(error.message),
    );
    assert.deepEqual(readdirSync(directory), []);
    assert.deepEqual(processesWith(file), []);
  });

  test('gives clones MAC addresses of their own, and warns that they cannot notice to be copies', async () => {
    const known = '52:54:00:aa:bb:cc';
    const cards = ['-device', `virtio-net-pci,mac=${known}`, '-device', 'virtio-net-pci'];
    await using vm = await startVm({ extraArgs: cards });
    const plain = path.join(folder, 'plain.mapram');
    await saveMappedRam(vm, plain);
    const warnings: string[] = [];
    await using clones = await fork({
      file: plain,
      count: 2,
      command: vm.commandLine.filter((word) => word !== '-no-reboot'),
      newMacs: true,
      onWarning: (text) => warnings.push(text),
    });
    assert.match(warnings.join(), /no vmgenid device/);
    const addresses = new Set([known, '52:54:00:12:34:56']);
    for (const { facts } of clones.vms) {
      const session = await QmpSession.open(facts.qmp);
      const present = async () =>
        (await session.execute<{ 'main-mac': string }[]>('query-rx-filter')).map((card) => card['main-mac']);
      assert.deepEqual((await present()).sort(), [...(facts.macs as string[])].sort());
      // At a reset a card takes the address of the command line.
      await session.execute('system_reset');
      await session.waitForEvent('RESET');
      assert.deepEqual((await present()).sort(), [...(facts.macs as string[])].sort());
      session.close();
      for (const mac of facts.macs as string[]) addresses.add(mac);
    }
    assert.equal(addresses.size, 2 + 4);
  });

  test('leaves its clones running with --detach', async () => {
    const directory = path.join(folder, 'detached');
    const run = await runCli([
      'fork',
      file,
      ...['--count', '2', '--dir', directory, '--detach', '--json', '--'],
      ...command,
    ]);
    assert.equal(run.code, 0, run.stderr);
    const vms = run.result.vms as { qmp: string; pid: number }[];
    assert.equal(vms.length, 2);
    for (const { qmp, pid } of vms) {
      const session = await QmpSession.open(qmp);
      assert.equal((await session.execute<{ status: string }>('query-status')).status, 'running');
      session.close();
      process.kill(pid, 'SIGKILL');
    }
  });

  test('fails when a clone was killed, not when they were asked to end (R07)', async () => {
    for (const [killed, code] of [
      [2, 1],
      [1, 1],
      [0, 0],
    ] as const) {
      const directory = path.join(folder, `killed-${killed}`);
      let begun = false;
      const run = await runCli(
        ['fork', file, ...['--count', '2', '--dir', directory, '--json', '--'], ...command],
        {
          onStdout: (_, stdout) => {
            const ready = stdout.split('\n').find((line) => line.includes('"ready"'));
            if (ready === undefined || begun) return;
            begun = true;
            const vms = (JSON.parse(ready) as { vms: { pid: number }[] }).vms;
            for (const [index, { pid }] of vms.entries()) {
              process.kill(pid, index < killed ? 'SIGKILL' : 'SIGTERM');
            }
          },
        },
      );
      assert.equal(run.code, code, run.stderr);
    }
  });
});
