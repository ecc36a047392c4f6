/**
 * The blocks of README and docs that need a VM are carried out against real QEMUs, each in a folder of its own: what they call `/run`,
 * `/var/lib/vm`, `/tmp` and `/dev/shm` lies in there. The others are carried out by the tests in test/docs.
 */

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { connect } from 'node:net';
import path from 'node:path';
import { afterEach, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { transform } from 'esbuild';
import { jsonSchema } from '../../src/cli/commands/schema.js';
import { MappedRamImage } from '../../src/mapped-ram/image.js';
import { fork } from '../../src/snapshot/resume/fork.js';
import { save } from '../../src/snapshot/save/save.js';
import { verify } from '../../src/snapshot/verify/verify.js';
import {
  type CodeBlock,
  codeBlocks,
  linkPackage,
  needsVm,
  pages,
  putFiles,
  putProgram,
  sessions,
  shapeOf,
} from '../docs/documents.js';
import {
  kernelFile,
  needs,
  type QemuName,
  qemuProgram,
  repositoryRoot,
  virtioNetModules,
} from '../support/environment.js';
import { linuxInitramfs, tinyGuest } from '../support/guest-images.js';
import { typeInGuest } from '../support/guest-shell.js';
import { startVm } from '../support/qemu.js';
import { QmpSession } from '../support/qmp-session.js';
import { killProcessesWith } from '../support/resumed-guest.js';
import { temporaryFolder } from '../support/temporary-folder.js';

/** Monitors of VMs that run already when a reader comes to a block. */
const RUNNING = ['/run/vm.qmp', '/run/web-mapram.qmp', '/run/template.qmp'];
/** Those of VMs that wait with `-incoming defer`. */
const WAITING = ['/run/new.qmp', '/run/other.qmp'];
/** That of `mapram monitor`, in front of the first. */
const FRONT = '/run/vm-mapram.qmp';
/** What mapram has saved before. */
const SAVED = ['vm.mapram', 'ready.mapram'];

/** For a machine that hangs: nothing is measured here. */
const timeout = 120_000;

let root: string;
let env: NodeJS.ProcessEnv;
/** Where the VM ran that all SAVED files hold, and where it runs again when one is resumed. */
let home: Place;
const sharedFolders: string[] = [];

const mapram = (...args: string[]) => execFileSync('mapram', args, { env, stdio: 'ignore', timeout });

async function until(condition: () => boolean, what: string): Promise<void> {
  const end = performance.now() + timeout / 2;
  while (!condition()) {
    assert.ok(performance.now() < end, `${what} in vain`);
    await sleep(20);
  }
}

async function untilConnectable(socket: string): Promise<void> {
  for (;;) {
    const error = await new Promise<NodeJS.ErrnoException | undefined>((resolve) => {
      const client = connect(socket, () => resolve(undefined)).on('error', resolve);
      client.once('connect', () => client.destroy());
    });
    if (error === undefined) return;
    if (error.code !== 'ECONNREFUSED') throw error;
    await sleep(20);
  }
}

const isSocket = (file: string) => existsSync(file) && lstatSync(file).isSocket();

/** The machine that the documents speak of. */
async function startQemu(qmp: string, qemu: QemuName, ...more: string[]): Promise<void> {
  const { program, args } = qemuProgram(qemu);
  const machine = ['-machine', 'q35', '-m', '1G', '-nodefaults', '-display', 'none', '-daemonize'];
  const monitor = ['-qmp', `unix:${qmp},server=on,wait=off`];
  execFileSync(program, [...args, ...machine, ...monitor, ...more], { stdio: 'ignore', timeout });
}

/** It has its guest, which rewrites memory, by its first instruction; the state of one that waits brings its own. */
const startRunning = (qmp: string, qemu: QemuName) =>
  startQemu(qmp, qemu, '-kernel', tinyGuest(), '-append', 'fill=8');

class Place {
  readonly folder: string;

  constructor(name: string) {
    this.folder = path.join(root, name);
    for (const folder of ['run', 'var/lib/vm', 'tmp', 'dev'])
      mkdirSync(path.join(this.folder, folder), { recursive: true });
    const shared = mkdtempSync('/dev/shm/mapram-docs-');
    sharedFolders.push(shared);
    symlinkSync(shared, path.join(this.folder, 'dev', 'shm'));
  }

  at(file: string): string {
    return path.join(this.folder, file);
  }

  /** The same code with the machine's folders in here. */
  moved(code: string): string {
    const folders = /(?<![\w.$])\/(?:run|tmp|var\/lib\/vm|dev\/shm)\b/g;
    return code.replaceAll(folders, (folder) => this.at(folder));
  }

  /** Makes what a block speaks of and does not make itself. */
  async prepare({ where, code }: CodeBlock): Promise<void> {
    const qemu = qemuOf(where);
    putFiles(this.folder, code);
    for (const file of SAVED) {
      const saves = new RegExp(`\\bsave\\b.*[ /']${file.replace('.', '\\.')}`, 's').test(code);
      if (!code.includes(file) || saves) continue;
      for (const folder of ['.', 'var/lib/vm'])
        execFileSync('cp', ['--sparse=always', home.at('vm.mapram'), this.at(path.join(folder, file))]);
    }
    const speaksOf = (qmp: string) =>
      code.includes(qmp) && !new RegExp(`-qmp (?:unix:)?${qmp}\\b|qmp: '${qmp}'`).test(code);
    const front = speaksOf(FRONT);
    for (const qmp of RUNNING) {
      if (speaksOf(qmp) || (front && qmp === RUNNING[0])) await startRunning(this.at(qmp), qemu);
    }
    for (const qmp of WAITING) {
      if (speaksOf(qmp)) await startQemu(this.at(qmp), qemu, '-incoming', 'defer');
    }
    if (front) await this.startFront();
    if (code.includes('/run/clones/clone-1'))
      mapram('fork', home.at('vm.mapram'), '--count', '1', '--dir', this.at('/run/clones'), '--detach');
  }

  async startFront(): Promise<void> {
    const args = ['monitor', this.at('/run/vm.qmp'), '--qmp', this.at(FRONT)];
    const front = spawn('mapram', args, { env, stdio: 'ignore' });
    fronts.push(front);
    await until(() => isSocket(this.at(FRONT)), 'waited for the monitor');
    // It is bound a moment before it listens.
    await untilConnectable(this.at(FRONT));
  }
}

const fronts: ReturnType<typeof spawn>[] = [];

/** QEMU serves one client at a time, so the monitor in front of one must be gone before it is asked. */
async function endFronts(): Promise<void> {
  for (const front of fronts.splice(0)) {
    front.kill('SIGTERM');
    if (front.exitCode === null && front.signalCode === null) await once(front, 'exit');
  }
}

const qemuOf = (where: string): QemuName => (where.startsWith('docs/old-qemu.md') ? '7.2' : '10.0');

function skipOf({ where, code }: CodeBlock): string | false {
  const tools = ['gdb', 'openssl'].filter((tool) => new RegExp(`^${tool} `, 'm').test(code));
  return needs({ qemu: qemuOf(where), guest: 'tiny', tools }).skip;
}

interface Finished {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** Runs a program to its end; one that serves until it is told to end is told as soon as it does. */
async function runIn(place: Place, command: readonly string[], serves?: () => boolean): Promise<Finished> {
  const [program = '', ...args] = command;
  // Files: into a pipe, VMs that are left running could go on writing.
  const files = ['stdout', 'stderr'].map((name) => place.at(name));
  const outputs = files.map((file) => openSync(file, 'w'));
  const child = spawn(program, args, { cwd: place.folder, env, stdio: ['ignore', ...outputs] });
  const exited = once(child, 'exit');
  if (serves) {
    await until(() => child.exitCode !== null || serves(), 'waited for it to serve');
    // The shell has become, or waits for, the last command of its script.
    const last = execFileSync('ps', ['-o', 'pid=', '--ppid', `${child.pid}`, '--pid', `${child.pid}`]);
    process.kill(Number(`${last}`.trim().split('\n').at(-1)), 'SIGINT');
  }
  const [code] = await exited;
  for (const output of outputs) closeSync(output);
  const [stdout = '', stderr = ''] = files.map((file) => readFileSync(file, 'utf8'));
  return { code, stdout, stderr };
}

/** When a block that does not end by itself has begun to serve; undefined for others. */
function servesWhen(place: Place, code: string): (() => boolean) | undefined {
  if (/^mapram monitor .*--qmp/m.test(code)) return () => isSocket(place.at(FRONT));
  if (/^mapram ui/m.test(code)) return () => readFileSync(place.at('stdout'), 'utf8').includes('http://');
  return undefined;
}

/** After any block the files that it names are whole, and all VMs run. */
async function assertGoodEnd(place: Place, code: string): Promise<void> {
  await endFronts();
  for (const [, name = ''] of code.matchAll(/(?:^|[ ':])([\w/.-]+\.mapram)\b/gm)) {
    const { ok, problems } = await verify({ file: path.resolve(place.folder, place.moved(name)) });
    assert.deepEqual([ok, problems], [true, []], name);
  }
  const states: string[] = [];
  for (const folder of [place.folder, home.folder]) {
    for (const name of readdirSync(folder, { recursive: true }) as string[]) {
      const socket = path.join(folder, name);
      if (!/\bqmp(?:\.sock)?$/.test(name) || !isSocket(socket)) continue;
      const qmp = await QmpSession.open(socket).catch(() => undefined);
      if (qmp === undefined) continue;
      const { status } = await qmp.execute<{ status: string }>('query-status');
      qmp.close();
      // A client that migrates by itself finds the VM as QEMU leaves it.
      assert.equal(status, code.includes("execute('migrate',") ? 'postmigrate' : 'running', name);
      states.push(status);
    }
  }
  const startsVm = /^mapram (?:restore|resume|fork) (?!.*--print)|^await restore/m.test(code);
  assert.ok(states.length > 0 || !startsVm, 'no VM runs');
}

describe('documents', needs({ qemu: '10.0', guest: 'tiny' }), () => {
  before(async () => {
    root = temporaryFolder('docs');
    const programs = path.join(root, 'programs');
    putProgram(programs, path.join(repositoryRoot, 'build', 'src', 'cli', 'main.js'));
    symlinkSync(qemuProgram('10.0').program, path.join(programs, 'qemu-system-x86_64'));
    env = { ...process.env, PATH: `${programs}:${process.env.PATH}`, TMPDIR: root, HOME: root };
    linkPackage(root);
    home = new Place('home');
    await startRunning(home.at('/run/vm.qmp'), '10.0');
    mapram('save', home.at('/run/vm.qmp'), home.at('vm.mapram'), '--then', 'quit');
  });
  afterEach(async () => {
    await endFronts();
    // Whatever was started here has a path below the root in its command line.
    killProcessesWith(root);
    for (const folder of sharedFolders.splice(0)) rmSync(folder, { recursive: true, force: true });
  });

  let count = 0;
  const newPlace = () => new Place(String(++count));

  const shell = pages.flatMap((page) => codeBlocks(page, 'sh', 'bash', 'shell'));
  // What speaks of virsh is in libvirt-client.test.ts.
  for (const block of shell.filter((each) => needsVm(each) && !/\bvirsh\b/.test(each.code))) {
    test(block.where, { skip: skipOf(block), timeout }, async () => {
      const place = newPlace();
      await place.prepare(block);
      const script = ['/bin/bash', '-euc', place.moved(block.code)];
      const { code, stdout, stderr } = await runIn(place, script, servesWhen(place, block.code));
      assert.equal(code, 0, stdout + stderr);
      const complaints = stderr.split('\n').filter((line) => /^mapram: (?!warning)/.test(line));
      assert.deepEqual(complaints, []);
      if (/ --json$/m.test(block.code)) {
        const [, name = ''] = /^mapram (\w+)/.exec(block.code) ?? [];
        const schema = new Ajv2020({ strict: true, allowUnionTypes: true });
        const validate = schema.compile(jsonSchema(name));
        for (const line of stdout.trimEnd().split('\n')) assert.ok(validate(JSON.parse(line)), line);
      }
      await assertGoodEnd(place, block.code);
    });
  }

  const typescript = pages.flatMap((page) => codeBlocks(page, 'ts', 'typescript'));
  for (const block of typescript.filter(needsVm)) {
    test(block.where, { timeout }, async () => {
      const place = newPlace();
      await place.prepare(block);
      const { code: script } = await transform(place.moved(block.code), {
        loader: 'ts',
        format: 'esm',
        target: 'node20',
      });
      writeFileSync(place.at('block.js'), script);
      const { code, stdout, stderr } = await runIn(place, [process.execPath, place.at('block.js')]);
      assert.equal(code, 0, stdout + stderr);
      await assertGoodEnd(place, block.code);
    });
  }

  const [conversation] = codeBlocks('docs/monitor.md', 'json');
  test(`${conversation?.where}, to a QEMU 7.2`, { ...needs({ qemu: '7.2' }), timeout }, async () => {
    const place = newPlace();
    await startRunning(place.at('/run/vm.qmp'), '7.2');
    await place.startFront();
    const qmp = await QmpSession.open(place.at(FRONT));
    const requests = place
      .moved(conversation?.code ?? '')
      .split(/\n(?=\{"execute")/)
      .map((text) => JSON.parse(text) as { execute: string; arguments?: Record<string, unknown> });
    assert.equal(requests.at(-1)?.execute, 'query-migrate');
    for (const request of requests) await qmp.execute(request.execute, request.arguments);
    for (;;) {
      const { status } = await qmp.execute<{ status: string }>('query-migrate');
      if (status === 'completed') break;
      assert.notEqual(status, 'failed');
      await sleep(20);
    }
    qmp.close();
    const { ok, problems } = await verify({ file: place.at('/var/lib/vm/vm.mapram') });
    assert.deepEqual([ok, problems], [true, []]);
  });

  const typed = codeBlocks('docs/resume-and-fork.md').find(({ code }) => code.startsWith('cd /sys/'));
  test(`${typed?.where}, typed in a clone`, {
    ...needs({ qemu: '10.0', guest: 'linux', virtioNet: true }),
    timeout,
  }, async () => {
    assert.ok(typed, 'there is no typed');
    const file = newPlace().at('linux.mapram');
    const init = path.join(repositoryRoot, 'examples', 'sandbox-pool', 'guest-init.sh');
    const modules = virtioNetModules();
    const append = 'console=ttyS0 quiet loglevel=0 panic=-1 no_timer_check';
    const kernel = ['-kernel', kernelFile(), '-initrd', linuxInitramfs(init, modules), '-append', append];
    const extraArgs = [...kernel, '-device', 'virtio-net-pci,mac=52:54:00:aa:bb:cc'];
    const address = 'cat /sys/class/net/eth0/address';
    {
      await using vm = await startVm({ guest: 'none', memoryMiB: 256, paused: true, extraArgs });
      await vm.cont();
      await vm.console.waitForLine('ready');
      vm.console.close();
      const load = modules.map((name) => `insmod /modules/${path.basename(name)}`);
      const lines = ['mkdir /sys', 'mount -t sysfs sys /sys', ...load, address];
      const before = await typeInGuest(path.join(vm.folder, 'serial.sock'), lines.join('\n'));
      assert.equal(before, '52:54:00:aa:bb:cc');
      await save({ vm: vm.qmpPath, file });
    }
    const dir = path.join(path.dirname(file), 'clones');
    await using clones = await fork({ file, count: 2, dir, newMacs: true, onWarning: () => {} });
    for (const { facts, directory } of clones.vms) {
      const serial = path.join(directory, 'serial.sock');
      assert.equal(await typeInGuest(serial, address), '52:54:00:aa:bb:cc', 'the driver has looked long ago');
      await typeInGuest(serial, typed.code);
      assert.deepEqual([await typeInGuest(serial, address)], facts.macs);
    }
  });

  const [report] = sessions('docs/verify.md');
  test(`${report?.where}, of a file with a flipped bit`, {
    ...needs({ tools: ['openssl'] }),
    timeout,
  }, async () => {
    assert.ok(report, 'there is no report');
    const place = newPlace();
    const [keys] = shell.filter(({ code }) => code.includes('openssl'));
    assert.ok(keys, 'there is no keys');
    const made = keys.code.split('\n').filter((line) => /^(?:openssl|mapram save)/.test(line));
    await startRunning(place.at('/run/vm.qmp'), '10.0');
    const ready = await runIn(place, ['/bin/bash', '-euc', place.moved(made.join('\n'))]);
    assert.equal(ready.code, 0, ready.stderr);
    await flipBit(place.at('vm.mapram'));
    const { code, stdout, stderr } = await runIn(place, ['/bin/bash', '-euc', report.command]);
    assert.equal(code, 1);
    assert.match(stdout + stderr, shapeOf(report.shown));
  });
});

/** In the first page of main memory above 1 MiB that has contents. */
async function flipBit(file: string): Promise<void> {
  let offset: number;
  {
    await using image = await MappedRamImage.open(file);
    const block = image.block('pc.ram');
    assert.ok(block, 'there is no block');
    offset = block.pagesOffset + block.bitmap.nextSet(256) * image.pageSize;
  }
  const fd = openSync(file, 'r+');
  const byte = Buffer.alloc(1);
  readSync(fd, byte, 0, 1, offset);
  byte[0] = (byte[0] as number) ^ 1;
  writeSync(fd, byte, 0, 1, offset);
  closeSync(fd);
}
