/** VMs that mapram has started, from `resume --detach` to their end, through the command line and real QEMUs. */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import type { EndedVm } from '../../src/snapshot/lifecycle/control-vms.js';
import type { ListedVm } from '../../src/snapshot/lifecycle/list-vms.js';
import { type CliRun, runCli } from '../cli/run-cli.js';
import { needs } from '../support/environment.js';
import { saveMappedRam } from '../support/native-migration.js';
import { startVm } from '../support/qemu.js';
import { killProcessesWith, processesWith } from '../support/resumed-guest.js';
import { temporaryFolder } from '../support/temporary-folder.js';

describe('the life of VMs', needs({ qemu: '10.0', guest: 'tiny', tools: ['qemu-img'] }), () => {
  let folder: string;
  let file: string;
  let command: string[];
  let environment: Record<string, string>;

  before(async () => {
    folder = temporaryFolder('lifecycle');
    file = path.join(folder, 'vm.mapram');
    const disk = path.join(folder, 'disk.img');
    execFileSync('qemu-img', ['create', '-q', '-f', 'raw', disk, '1M']);
    await using vm = await startVm({
      extraArgs: ['-drive', `file=${disk},format=raw,if=virtio`, '-device', 'vmgenid,guid=auto'],
    });
    await saveMappedRam(vm, file, { channels: 2 });
    command = vm.commandLine.map((word) => word.replaceAll(vm.folder, path.join(folder, 'own')));
    mkdirSync(path.join(folder, 'own'));
    mkdirSync(path.join(folder, 'run'), { mode: 0o700 });
    mkdirSync(path.join(folder, 'tmp'));
    environment = { XDG_RUNTIME_DIR: path.join(folder, 'run'), TMPDIR: path.join(folder, 'tmp') };
  });
  afterEach(() => killProcessesWith(file));
  after(() => {
    killProcessesWith(folder);
    rmSync(folder, { recursive: true, force: true });
  });

  const cli = (...args: string[]): Promise<CliRun> => runCli(args, { env: environment });
  const ok = async (...args: string[]): Promise<Record<string, unknown>> => {
    const run = await cli(...args, '--json');
    assert.equal(run.code, 0, run.stderr);
    return run.result;
  };
  const listed = async () => (await ok('ps')).vms as ListedVm[];
  const quit = async (...args: string[]) => (await ok('quit', ...args)).vms as EndedVm[];
  const resume = async (qmp: string) => {
    const run = await cli('resume', file, '--qmp', qmp, '--detach', '--json', '--', ...command);
    assert.equal(run.code, 0, run.stderr);
  };
  const fork = async (count: number) => {
    const run = await cli('fork', file, '--count', String(count), '--detach', '--json', '--', ...command);
    assert.equal(run.code, 0, run.stderr);
    return String(run.result.directory);
  };
  const records = () => readdirSync(path.join(folder, 'run', 'mapram'));

  test('ps lists what was detached; stop, cont and quit act on it by socket, file and process', async () => {
    const qmp = path.join(folder, 'one.qmp');
    await resume(qmp);
    const [vm, ...others] = await listed();
    assert.deepEqual(others, []);
    assert.deepEqual(
      [vm?.qmp, vm?.file, vm?.detached, vm?.runState, vm?.pid],
      [qmp, file, true, 'running', processesWith(file)[0]],
    );
    // QEMU's own memory at least, and not what it only reads of the file.
    assert.ok((vm?.privateBytes ?? 0) > 1 << 20, `private bytes: ${vm?.privateBytes}`);
    assert.ok((vm?.ageMs ?? -1) >= 0, `age ms: ${vm?.ageMs}`);
    const stopped = (await ok('stop', qmp)).vms as { runState: string }[];
    assert.deepEqual(
      stopped.map(({ runState }) => runState),
      ['paused'],
    );
    assert.equal((await listed())[0]?.runState, 'paused');
    const continued = (await ok('cont', file)).vms as { runState: string }[];
    assert.deepEqual(
      continued.map(({ runState }) => runState),
      ['running'],
    );
    const ended = await quit(String(vm?.pid));
    assert.deepEqual(ended, [{ qmp, pid: vm?.pid, by: 'quit' }]);
    assert.deepEqual([await listed(), processesWith(file), records()], [[], [], []]);
    assert.ok(existsSync(file), 'the file stays');
  });

  test('the folders of clones go when these are ended, one by one or all at once, and stay with --keep', async () => {
    const directory = await fork(3);
    const clone = (n: number) => path.join(directory, `clone-${n}`);
    assert.equal((await quit(clone(1)))[0]?.removed, clone(1));
    assert.deepEqual(readdirSync(directory), ['clone-2', 'clone-3']);
    assert.equal((await quit('--keep', clone(2)))[0]?.kept, clone(2));
    assert.ok(existsSync(path.join(clone(2), 'disk0.qcow2')), 'the overlay of another clone is missing');
    assert.equal((await quit(directory)).length, 1);
    assert.deepEqual(readdirSync(directory), ['clone-2']);
    assert.deepEqual(records(), []);
  });

  test('the folder of all clones goes with the last of them', async () => {
    const directory = await fork(2);
    assert.equal((await quit(file)).length, 2);
    assert.equal(existsSync(directory), false);
    assert.deepEqual(records(), []);
  });

  test('clones that ended by themselves leave folders, which doctor lists and remove removes', async () => {
    const directory = await fork(2);
    killProcessesWith(file);
    while (processesWith(file).length > 0);
    assert.deepEqual(await listed(), []);
    const run = await cli('doctor', folder, '--json');
    const { ended } = run.result.leftBehind as { ended: { path: string; removed: boolean }[] };
    assert.deepEqual(
      ended.map(({ path: made, removed }) => [path.dirname(made), removed]),
      [
        [directory, false],
        [directory, false],
      ],
    );
    assert.equal(((await ok('remove', directory)).removed as string[]).length, 2);
    assert.equal(existsSync(directory), false);
    assert.deepEqual(records(), []);
  });

  test('a QEMU that does not answer is ended by signals', async () => {
    const qmp = path.join(folder, 'stuck.qmp');
    await resume(qmp);
    // Its only client: the next one waits for its turn in vain.
    const holder = spawn(process.execPath, [
      '-e',
      'const c = require("net").connect(process.argv[1]); c.on("data", () => process.stdout.write("x")); c.resume();',
      qmp,
    ]);
    await once(holder.stdout, 'data');
    assert.equal((await listed())[0]?.runState, undefined);
    const ended = await quit(qmp);
    assert.equal(ended[0]?.by, 'SIGTERM');
    holder.kill();
    assert.deepEqual(records(), []);
  });

  test('remove takes what belongs to the file along, and nothing else', async () => {
    const copy = path.join(folder, 'copy.mapram');
    const qmp = path.join(folder, 'busy.qmp');
    execFileSync('cp', [file, copy]);
    for (const name of [`${copy}.prefetch`, path.join(folder, '.copy.mapram.mapram-part')])
      writeFileSync(name, 'x');
    assert.deepEqual(
      ((await ok('remove', copy)).removed as string[]).sort(),
      [path.join(folder, '.copy.mapram.mapram-part'), copy, `${copy}.prefetch`].sort(),
    );
    const other = path.join(folder, 'notes.txt');
    writeFileSync(other, 'not a VM');
    for (const [name, complaint] of [
      [other, /no saved VM/],
      [folder, /not one that mapram made/],
      [copy, /no such file/],
      [path.join(folder, 'run'), /not one that mapram made/],
    ] as const) {
      const run = await cli('remove', name);
      assert.notEqual(run.code, 0);
      assert.match(run.stderr, complaint);
    }
    assert.ok(existsSync(other), `${other} is missing`);
    await resume(qmp);
    const refused = await cli('remove', file);
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /runs from it; "mapram quit/);
    assert.ok(existsSync(file), `${file} is missing`);
    await quit(qmp);
  });

  test('what is no VM is refused in one sentence', async () => {
    for (const name of [path.join(folder, 'nowhere'), folder, '999999999']) {
      const run = await cli('quit', name);
      assert.equal(run.code, 2);
      assert.match(run.stderr, /^mapram: ending .*; "mapram ps" lists them\n$/);
    }
  });
});
