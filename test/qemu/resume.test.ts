/** Resuming from files, against real QEMUs: the guest goes on where it was, and the file stays as it was. */

import assert from 'node:assert/strict';
import {
  closeSync,
  copyFileSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { createServer } from 'node:net';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { jsonSchema } from '../../src/cli/commands/schema.js';
import { MapramError } from '../../src/errors.js';
import { MappedRamImage } from '../../src/mapped-ram/image.js';
import { planResume, type ResumeOptions, resume } from '../../src/snapshot/resume/resume.js';
import { type SaveOptions, save } from '../../src/snapshot/save/save.js';
import { encodeLibvirtHeader, LIBVIRT_HEADER_BYTES } from '../../src/stream/libvirt-header.js';
import { runCli } from '../cli/run-cli.js';
import { startBootedVm } from '../support/booted-vm.js';
import { needs, qemuProgram } from '../support/environment.js';
import { failsWith } from '../support/fails-with.js';
import { saveMappedRam } from '../support/native-migration.js';
import { sha256 } from '../support/probes.js';
import { startVm, type TestVm, type VmOptions } from '../support/qemu.js';
import { QmpSession } from '../support/qmp-session.js';
import {
  assertMemoryIsThatOf,
  commandIn,
  consoleIn,
  killProcessesWith,
  processesWith,
} from '../support/resumed-guest.js';
import { temporaryFolder } from '../support/temporary-folder.js';

let folder: string;
let names = 0;
before(() => {
  folder = temporaryFolder('resume');
});
after(() => {
  killProcessesWith(folder);
  rmSync(folder, { recursive: true, force: true });
});

/** A folder for the sockets of one resumed VM. */
function newFolder(): string {
  names += 1;
  const created = path.join(folder, String(names));
  mkdirSync(created);
  return created;
}

interface SavedGuest {
  file: string;
  vm: TestVm;
  counter: number;
  bootChecksum: string;
}

/** Runs a guest, saves it and ends it. */
async function saved(
  options: VmOptions,
  how: (vm: TestVm, file: string) => Promise<unknown>,
): Promise<SavedGuest> {
  names += 1;
  const file = path.join(folder, `${names}.mapram`);
  await using vm = await (options.guest === 'linux' ? startBootedVm(options) : startVm(options));
  await how(vm, file);
  return { file, vm, counter: vm.console.counter, bootChecksum: vm.console.bootChecksum as string };
}

/** As libvirt's `save_image_format = "sparse"`: QEMU's file behind libvirt's header. */
async function saveForLibvirt(vm: TestVm, file: string): Promise<void> {
  const xml = new TextEncoder().encode('<domain type="qemu"/>\0');
  await saveMappedRam(vm, file, { offset: LIBVIRT_HEADER_BYTES + 4096 });
  const header = encodeLibvirtHeader({
    complete: true,
    version: 2,
    dataLength: 4096,
    wasRunning: true,
    format: 'sparse',
    cookieOffset: 0,
    littleEndian: true,
  });
  const fd = openSync(file, 'r+');
  writeSync(fd, header, 0, header.length, 0);
  writeSync(fd, xml, 0, xml.length, LIBVIRT_HEADER_BYTES);
  closeSync(fd);
}

/** Resumes and lets the guest itself check its memory. */
async function assertGoesOn(
  { file, vm, counter, bootChecksum }: SavedGuest,
  options: Partial<ResumeOptions> = {},
  sockets = newFolder(),
): Promise<void> {
  const before = await sha256(file);
  {
    await using resumed = await resume({ file, command: commandIn(vm, sockets), ...options });
    assert.equal(resumed.facts.runState, 'running');
    assert.equal(resumed.facts.qmp, path.join(sockets, 'qmp.sock'));
    const console = await consoleIn(sockets);
    await console.waitForCounterAbove(counter);
    assert.equal(await console.checksum(), bootChecksum);
    await console.waitForCounterAbove();
    assert.deepEqual(console.torn, []);
    console.close();
  }
  assert.deepEqual(processesWith(file), []);
  assert.equal(await sha256(file), before);
}

/** Writes garbage into slots of zero pages, as a live save may leave it. Gives their number. */
async function plantStaleSlots(file: string, every: number): Promise<number> {
  await using image = await MappedRamImage.open(file);
  const fd = openSync(file, 'r+');
  let planted = 0;
  for (const { idstr, bitmap, pageCount, pagesOffset } of image.blocks) {
    if (idstr !== 'pc.ram') continue;
    for (let page = 256; page < pageCount; page += every) {
      if (bitmap.test(page)) continue;
      writeSync(fd, Buffer.alloc(4096, 0xa5), 0, 4096, pagesOffset + page * 4096);
      planted += 1;
    }
  }
  closeSync(fd);
  return planted;
}

describe('resume of a small guest', needs({ qemu: '10.0', guest: 'tiny' }), () => {
  const quietly = { onWarning: () => {} };

  test("goes on from QEMU's own file", async () => {
    await assertGoesOn(await saved({}, (vm, file) => saveMappedRam(vm, file)));
  });

  test('goes on from a live save through QEMU, direct I/O and several channels', async () => {
    await assertGoesOn(
      await saved({}, (vm, file) => save({ vm: vm.qmpPath, file, method: 'native', live: true, ...quietly })),
    );
  });

  test('goes on from a file that mapram wrote from shared memory', async () => {
    await assertGoesOn(
      await saved({ memory: 'shared-file' }, (vm, file) =>
        save({ vm: vm.qmpPath, file, method: 'shared', ...quietly }),
      ),
    );
  });

  test('goes on with memory of two NUMA nodes, on another machine, at an offset', async () => {
    const offset = 0x1234;
    const guest = await saved({ machine: 'pc', memory: 'numa-anonymous' }, (vm, file) =>
      saveMappedRam(vm, file, { offset }),
    );
    await assertGoesOn(guest, { offset });
  });

  test("goes on from libvirt's container", async () => {
    const guest = await saved({}, saveForLibvirt);
    await assertGoesOn(guest);
    await assert.rejects(
      resume({ file: guest.file }),
      failsWith(
        'USAGE',
        /virsh domxml-to-native.* give its command line after --, with -machine pc-q35-10\.0 -m 64M -smp 1 in it/,
      ),
    );
  });

  test('goes on without PCI', async () => {
    await assertGoesOn(await saved({ machine: 'microvm' }, (vm, file) => saveMappedRam(vm, file)));
  });

  test('shows zeros where a slot is stale', async () => {
    const { file, vm } = await saved({}, (source, target) => saveMappedRam(source, target));
    assert.ok((await plantStaleSlots(file, 7)) > 500, 'too few stale slots were planted');
    const before = await sha256(file);
    const sockets = newFolder();
    await using resumed = await resume({ file, command: commandIn(vm, sockets), paused: true });
    assert.equal(resumed.facts.runState, 'paused');
    await assertMemoryIsThatOf(file, resumed.facts.qmp);
    assert.equal(await sha256(file), before);
  });
});

describe('resume', needs({ qemu: '10.0', guest: 'tiny' }), () => {
  let guest: SavedGuest;
  before(async () => {
    guest = await saved({ extraArgs: ['-device', 'secondary-vga'] }, (vm, file) => saveMappedRam(vm, file));
  });

  test('has QMP where it is asked to, and the memory of the file', async () => {
    const qmp = path.join(newFolder(), 'other.sock');
    await using resumed = await resume({
      file: guest.file,
      command: commandIn(guest.vm, newFolder()),
      qmp,
      paused: true,
    });
    assert.equal(resumed.facts.qmp, qmp);
    await assertMemoryIsThatOf(guest.file, qmp);
  });

  test('plans what it would run without running it', async () => {
    const plan = await planResume({ file: guest.file, command: commandIn(guest.vm, newFolder()) });
    assert.ok(
      plan.command.some((word) => word.includes(`mem-path=${guest.file}`)),
      plan.command.join(' '),
    );
    assert.deepEqual(processesWith(guest.file), []);
  });

  test('leaves a detached VM to itself', async () => {
    const sockets = newFolder();
    const resumed = await resume({ file: guest.file, command: commandIn(guest.vm, sockets) });
    await resumed.detach();
    await resumed[Symbol.asyncDispose]();
    const console = await consoleIn(sockets);
    await console.waitForCounterAbove(guest.counter);
    console.close();
    process.kill(resumed.pid, 'SIGKILL');
    while (processesWith(guest.file).length > 0) await sleep(5);
  });

  test('reads ahead what an earlier guest has touched', async () => {
    const prefetched = async (options: Partial<ResumeOptions>): Promise<number> => {
      await using resumed = await resume({
        file: guest.file,
        command: commandIn(guest.vm, newFolder()),
        ...options,
      });
      return await resumed.prefetched;
    };
    assert.equal(await prefetched({}), 0);
    const sockets = newFolder();
    const before = await sha256(guest.file);
    {
      await using resumed = await resume({ file: guest.file, command: commandIn(guest.vm, sockets) });
      const console = await consoleIn(sockets);
      await console.waitForCounterAbove(guest.counter);
      console.close();
      assert.ok(resumed.recordPrefetch() > 0, 'nothing was recorded');
    }
    const recorded = await prefetched({});
    const all = await prefetched({ prefetch: 'all' });
    assert.ok(recorded > 0 && recorded < all, `${recorded} of ${all} bytes`);
    assert.equal(await prefetched({ prefetch: 'none' }), 0);
    assert.equal(await sha256(guest.file), before);
    // A record is good for the file as it was when it was made.
    const { atime, mtime } = statSync(guest.file);
    utimesSync(guest.file, atime, new Date(mtime.getTime() + 1000));
    assert.equal(await prefetched({}), 0);
  });

  test('says what QEMU said when it does not start, and leaves no process', async () => {
    const command = [...commandIn(guest.vm, newFolder()), '-device', 'no-such-device'];
    await assert.rejects(
      resume({ file: guest.file, command }),
      failsWith('VM', /QEMU did not start: .*'no-such-device' is not a valid device model name/),
    );
    assert.deepEqual(processesWith(guest.file), []);
  });

  test('says what QEMU said when the devices do not fit, and leaves no process', async () => {
    const command = commandIn(guest.vm, newFolder()).map((word) => word.replace('secondary-vga', 'edu'));
    await assert.rejects(
      resume({ file: guest.file, command }),
      failsWith('VM', /RAM block .* which the VM lacks/),
    );
    assert.deepEqual(processesWith(guest.file), []);
  });

  test('says what QEMU said when it does not take the state, and leaves no process', async () => {
    const command = commandIn(guest.vm, newFolder()).map((word) => word.replace('chardev:serial', 'none'));
    await assert.rejects(
      resume({ file: guest.file, command }),
      failsWith('MIGRATION', /Unknown savevm section or instance 'serial'/),
    );
    assert.deepEqual(processesWith(guest.file), []);
  });

  test('refuses a program that is not there', async () => {
    const command = ['/nonexistent/qemu', ...commandIn(guest.vm, newFolder()).slice(1)];
    await assert.rejects(
      resume({ file: guest.file, command }),
      failsWith('VM', /nonexistent.qemu cannot be started: there is no such program/),
    );
  });

  test('refuses a socket on which somebody listens', async () => {
    const sockets = newFolder();
    const server = createServer().listen(path.join(sockets, 'qmp.sock'));
    try {
      await assert.rejects(
        resume({ file: guest.file, command: commandIn(guest.vm, sockets) }),
        failsWith('BUSY', /another process listens on .*qmp\.sock already/),
      );
    } finally {
      server.close();
    }
  });

  test('refuses to put its monitor where there is a file, the saved VM itself included (F7)', async () => {
    const thesis = path.join(newFolder(), 'thesis.txt');
    writeFileSync(thesis, 'thesis');
    const before = statSync(guest.file);
    const command = commandIn(guest.vm, newFolder());
    for (const qmp of [thesis, guest.file]) {
      await assert.rejects(
        resume({ file: guest.file, command, qmp }),
        failsWith('EXISTS', /its qmp socket would replace .*, which is not a socket/),
      );
    }
    assert.equal(readFileSync(thesis, 'utf8'), 'thesis');
    const { ino, size } = statSync(guest.file);
    assert.deepEqual({ ino, size }, { ino: before.ino, size: before.size });
    assert.deepEqual(processesWith(guest.file), []);
  });

  test('refuses a file whose save did not finish, and one that was cut short', async () => {
    const file = path.join(newFolder(), 'cut');
    copyFileSync(guest.file, file);
    truncateSync(file, 40 << 20);
    await assert.rejects(
      resume({ file, command: commandIn(guest.vm, newFolder()) }),
      failsWith('FORMAT', /cut short/),
    );
  });

  test('ends QEMU when it is cancelled', async () => {
    const cancel = new AbortController();
    const resuming = resume({
      file: guest.file,
      command: commandIn(guest.vm, newFolder()),
      signal: cancel.signal,
    });
    while (processesWith(`mem-path=${guest.file}`).length === 0) await sleep(1);
    cancel.abort(new MapramError('CANCELLED', 'enough'));
    await assert.rejects(resuming, failsWith('CANCELLED', /enough/));
    assert.deepEqual(processesWith(guest.file), []);
  });

  test('needs QEMU 8.2', needs({ qemu: '7.2' }), async () => {
    const { program, args } = qemuProgram('7.2');
    await assert.rejects(
      resume({ file: guest.file, command: [program, ...args, ...commandIn(guest.vm, newFolder()).slice(1)] }),
      failsWith('UNSUPPORTED', /too old to map a part of a file as its memory \(QEMU 8\.2 can\)/),
    );
  });

  test('runs in the foreground until ^C, which ends the VM too', async () => {
    const sockets = newFolder();
    let interrupted = false;
    const run = await runCli(['resume', guest.file, '--', ...commandIn(guest.vm, sockets)], {
      onStdout(child, stdout) {
        if (interrupted || !/QMP: +\S+qmp\.sock/.test(stdout)) return;
        interrupted = true;
        child.kill('SIGINT');
      },
    });
    assert.equal(run.code, 130);
    assert.match(run.stderr, /^mapram: resume: cancelled by SIGINT$/m);
    assert.deepEqual(processesWith(guest.file), []);
  });

  test('tells scripts as soon as the VM runs, and in the end why it ended', async () => {
    let killed = false;
    const args = ['resume', guest.file, '--json', '--', ...commandIn(guest.vm, newFolder())];
    const run = await runCli(args, {
      onStdout(_, stdout) {
        const ready = stdout.split('\n').find((line) => line.startsWith('{"ready":"resume"'));
        if (killed || ready === undefined) return;
        killed = true;
        process.kill((JSON.parse(ready) as { vms: [{ pid: number }] }).vms[0].pid, 'SIGKILL');
      },
    });
    assert.equal(run.code, 1);
    assert.match(run.stderr, /^mapram: resume: the VM ended: QEMU was ended by SIGKILL$/m);
    const validate = new Ajv2020({ strict: true, allowUnionTypes: true }).compile(jsonSchema('resume'));
    for (const line of run.lines) assert.ok(validate(line), JSON.stringify([line, validate.errors]));
    assert.deepEqual(
      run.lines.map((line) => Object.keys(line)[0]),
      ['ready', 'result'],
    );
  });

  test('warns when the file is cut short under a VM, and says that this ended the VM', async () => {
    const file = path.join(newFolder(), 'copy');
    copyFileSync(guest.file, file);
    let cut = false;
    const run = await runCli(['resume', file, '--', ...commandIn(guest.vm, newFolder())], {
      onStdout(_, stdout) {
        if (cut || !/QMP: /.test(stdout)) return;
        cut = true;
        truncateSync(file, 2 ** 20);
      },
    });
    assert.equal(run.code, 1);
    assert.match(run.stderr, /^mapram: warning: .*copy was cut short while VMs run from it: /m);
    assert.match(
      run.stderr,
      /^mapram: resume: the VM ended: a page of its memory could not be read .*SIGBUS/m,
    );
  });

  test('tells scripts the process, the monitor and the times', async () => {
    const sockets = newFolder();
    const run = await runCli([
      'resume',
      guest.file,
      '--detach',
      '--json',
      '--',
      ...commandIn(guest.vm, sockets),
    ]);
    assert.equal(run.code, 0, run.stderr);
    const [vm] = run.result.vms as [Record<string, unknown>];
    assert.equal(vm.qmp, path.join(sockets, 'qmp.sock'));
    assert.equal(typeof vm.loadTimeMs, 'number');
    assert.equal(typeof vm.totalTimeMs, 'number');
    const session = await QmpSession.open(String(vm.qmp));
    await session.execute('quit');
    session.close();
  });
});

describe('resume of a Linux guest', needs({ qemu: '10.0', guest: 'linux' }), () => {
  const small = { memoryMiB: 256, fillMiB: 32 };
  type Way = Pick<SaveOptions, 'method' | 'live' | 'multifd'>;
  const wayName = ({ method, live, multifd }: Way): string =>
    `${method}, ${live ? 'live' : 'stopped'}${multifd === false ? ', without multifd' : ''}`;

  /** Saves a guest in all these ways, one after the other; it goes on in between. */
  async function savedIn(ways: readonly Way[], options: VmOptions): Promise<Map<string, SavedGuest>> {
    const guests = new Map<string, SavedGuest>();
    await using vm = await startBootedVm(options);
    for (const way of ways) {
      names += 1;
      const file = path.join(folder, `${names}.mapram`);
      await save({ vm: vm.qmpPath, file, onWarning() {}, ...way });
      const { counter, bootChecksum } = vm.console;
      guests.set(wayName(way), { file, vm, counter, bootChecksum: bootChecksum as string });
      await vm.console.waitForCounterAbove();
    }
    return guests;
  }

  test('goes on from every kind of save', async (t) => {
    const ways: Way[] = [
      { method: 'native' },
      { method: 'native', live: true },
      { method: 'shared' },
      { method: 'stream' },
      { method: 'stream', live: true, multifd: false },
    ];
    const guests = await savedIn(ways, { ...small, memory: 'shared-file' });
    for (const [name, guest] of guests) {
      if (name === 'native, live')
        assert.ok((await plantStaleSlots(guest.file, 1009)) > 0, 'no stale slot was planted');
      await t.test(name, async () => await assertGoesOn(guest));
    }
  });

  test("goes on from libvirt's container, and from memory of two NUMA nodes", async () => {
    await assertGoesOn(await saved({ guest: 'linux', ...small }, saveForLibvirt));
    const numa: VmOptions = { guest: 'linux', ...small, machine: 'pc', memory: 'numa-anonymous' };
    await assertGoesOn(await saved(numa, (vm, file) => saveMappedRam(vm, file)));
  });

  test('is killed in the middle of its work, and the file is as it was', async () => {
    const guest = await saved({ guest: 'linux', ...small, churn: { sizeMiB: 16, rateMiB: 32 } }, (vm, file) =>
      saveMappedRam(vm, file),
    );
    const { file, vm, counter } = guest;
    const before = await sha256(file);
    for (let kills = 0; kills < 3; kills++) {
      const sockets = newFolder();
      await using resumed = await resume({ file, command: commandIn(vm, sockets) });
      const console = await consoleIn(sockets);
      await console.waitForCounterAbove(counter);
      process.kill(resumed.pid, 'SIGKILL');
      assert.equal((await resumed.exited).signal, 'SIGKILL');
      console.close();
      assert.equal(await sha256(file), before);
    }
    await assertGoesOn(guest);
  });

  test('goes on in QEMU 10.0 from what QEMU 7.2 has sent', needs({ qemu: '7.2' }), async () => {
    const way: Way = { method: 'stream' };
    const guests = await savedIn([way], { ...small, qemu: '7.2' });
    const guest = guests.get(wayName(way)) as SavedGuest;
    const sockets = newFolder();
    const [, ...words] = commandIn(guest.vm, sockets);
    const { args } = qemuProgram('7.2');
    const command = [qemuProgram('10.0').program, ...words.slice(args.length)];
    await assertGoesOn(guest, { command }, sockets);
  });
});

test('a machine type that the QEMU here has no longer is named, with the releases that have it', {
  ...needs({ qemu: '10.0' }),
  timeout: 120_000,
}, async () => {
  await using vm = await startVm({ machine: 'pc-q35-7.2', guest: 'none', memory: 'shared-file' });
  const file = path.join(folder, 'old-machine.mapram');
  await save({ vm: vm.qmpPath, file });
  // Says what a QEMU 13.2 will say: none that lacks a machine type this version saves can be installed here.
  const program = path.join(folder, 'newer-qemu');
  writeFileSync(program, '#!/bin/sh\necho "$0: unsupported machine type: pc-q35-7.2" >&2\nexit 1\n', {
    mode: 0o755,
  });
  await assert.rejects(
    resume({ file, command: [program, '-machine', 'pc-q35-7.2', '-m', '64M'] }),
    failsWith(
      'UNSUPPORTED',
      /has no machine type pc-q35-7\.2; start an older QEMU that has it; the newest major with it is 13$/,
    ),
  );
});

test('a machine type that is deprecated in the QEMU here is named, with the newest major that has it', {
  ...needs({ qemu: '10.0' }),
  timeout: 120_000,
}, async () => {
  const here = newFolder();
  const { program, args } = qemuProgram('10.0');
  const line = [program, ...args].map((word) => `'${word}'`).join(' ');
  writeFileSync(path.join(here, 'qemu-system-x86_64'), `#!/bin/sh\nexec ${line} "$@"\n`, { mode: 0o755 });
  for (const [machine, deprecated] of [
    ['pc-q35-7.0', true],
    ['pc-q35-9.2', false],
  ] as const) {
    await using vm = await startVm({ machine, guest: 'none', memory: 'shared-file' });
    const file = path.join(folder, `${machine}.mapram`);
    await save({ vm: vm.qmpPath, file, afterwards: 'quit' });
    const { stdout } = await runCli(['inspect', file], { env: { PATH: `${here}:${process.env.PATH}` } });
    const named = /^QEMU here: +\S+\/qemu-system-x86_64 has pc-q35-7\.0, deprecated: a later QEMU cannot/m;
    assert.equal(named.test(stdout), deprecated, stdout);
    const warnings: string[] = [];
    await using _ = await resume({ file, paused: true, onWarning: (text) => warnings.push(text) });
    const noted = warnings.filter((text) =>
      /^machine type pc-q35-7\.0 is deprecated in QEMU 10\..*; the newest major with it is 12$/.test(text),
    );
    assert.equal(noted.length, deprecated ? 1 : 0, warnings.join('\n'));
  }
});
